//! What handlers of real workers do.

use serde_json::{Value, json};

use super::generate::Generator;
use super::view::View;

impl Generator {
    /// What handlers do with some of the jobs that are there.
    pub(super) fn script(&mut self, view: &View<'_>) -> Value {
        let mut script = json!({});
        for id in view.jobs() {
            let runs: Vec<Value> = (0..self.rng.u8(..3))
                .map(|run| self.run(&id, run))
                .collect();
            if !runs.is_empty() {
                script[id] = runs.into();
            }
        }
        script
    }

    fn run(&mut self, id: &str, run: u8) -> Value {
        let mut steps = Vec::new();
        if self.rng.u8(..) < 40 {
            steps.push(match self.rng.u8(..3) {
                0 => json!(["progress", self.rng.u8(..100)]),
                1 => json!(["log", format!("row {}", self.turns)]),
                _ => json!(["data", { "v": self.turns }]),
            });
        }
        let message = format!("failure {} of {id}", self.turns);
        let end = match self.rng.u8(..) {
            0..80 => json!(["return", self.turns]),
            80..160 => json!(["fail", message]),
            160..175 => json!(["fatal", message]),
            175..200 => json!(["delay", self.rng.choice([1000, 5000])]),
            200..225 => json!(["release"]),
            225..245 => {
                let mut opts = json!({});
                self.policy(&mut opts);
                let kid = format!("w{}-{}{run}", self.turns, id.replace(':', "_"));
                steps.push(json!(["child", kid, opts]));
                json!(["children"])
            }
            245..250 => {
                // A child that does not end: the return is refused.
                let kid = format!("w{}-{}{run}", self.turns, id.replace(':', "_"));
                steps.push(json!(["child", kid, { "delay": 1000 }]));
                json!(["return", self.turns])
            }
            _ => json!(["panic", message]),
        };
        steps.push(end);
        steps.into()
    }
}
