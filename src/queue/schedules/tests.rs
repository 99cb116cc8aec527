//! Redis decides the occurrences of an interval, by `lua/lib/scheduler.lua`; previews come from the
//! model. They must agree.

use oxbull_testkit::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::clock::Timestamp;
use crate::job::CatchUp;
use crate::policy::interval::Interval;

const FRAGMENT: &str = include_str!("../../../lua/lib/scheduler.lua");
const RUN: &str = "
    local occurrences = {}
    for i = 1, #ARGV, 5 do
      local interval = { every = tonumber(ARGV[i]), offset = tonumber(ARGV[i + 1]), all = ARGV[i + 4] == 'all' }
      local now, at = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
      if ARGV[i + 4] == 'first' then
        interval.start = at
        occurrences[#occurrences + 1] = whole(first_occurrence(interval, now))
      else
        occurrences[#occurrences + 1] = whole(following_occurrence(interval, now, at))
      end
    end
    return occurrences";

/// One question: which occurrence comes first, or after another?
#[derive(Debug, Clone)]
struct Case {
    every: i64,
    offset: i64,
    now: i64,
    question: Question,
}

#[derive(Debug, Clone)]
enum Question {
    First { start: Option<i64> },
    After { last: i64, catch_up: CatchUp },
}

impl Case {
    fn arguments(&self) -> [String; 5] {
        let (at, kind) = match &self.question {
            Question::First { start } => (*start, "first"),
            Question::After { last, catch_up } => (
                Some(*last),
                match catch_up {
                    CatchUp::Latest => "latest",
                    CatchUp::All => "all",
                },
            ),
        };
        let at = at.map_or(String::new(), |at| at.to_string());
        [self.every, self.offset, self.now]
            .map(|number| number.to_string())
            .into_iter()
            .chain([at, kind.to_owned()])
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    }

    fn model(&self) -> Timestamp {
        let interval = Interval::new(self.every, self.offset);
        let at = Timestamp::from_millis;
        match &self.question {
            Question::First { start } => interval.first(start.map(at), at(self.now)),
            Question::After { last, catch_up } => {
                interval.after(at(*last), at(self.now), *catch_up)
            }
        }
    }
}

/// Times around one another, so that early, late and exact ones are equally common.
fn case() -> impl Strategy<Value = Case> {
    let every = prop_oneof![1i64..100, 1i64..10_000_000, Just(86_400_000i64)];
    (every, 0i64..3, any::<u32>(), -3i64..4, -2i64..3, 0i64..4).prop_map(
        |(every, turns, random, steps, nudge, kind)| {
            let now = 1_700_000_000_000 + i64::from(random);
            let offset = i64::from(random) % every * i64::from(turns > 0) + every * (turns / 2);
            let at = now + steps * every + nudge;
            Case {
                every,
                offset,
                now,
                question: match kind {
                    0 => Question::First { start: None },
                    1 => Question::First { start: Some(at) },
                    2 => Question::After {
                        last: at,
                        catch_up: CatchUp::Latest,
                    },
                    _ => Question::After {
                        last: at,
                        catch_up: CatchUp::All,
                    },
                },
            }
        },
    )
}

#[test]
fn lua_and_the_model_agree_on_every_occurrence_of_an_interval() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let script = format!("{FRAGMENT}\n{RUN}");
    let config = ProptestConfig::with_cases(20);
    let agreed = TestRunner::new(config).run(&proptest::collection::vec(case(), 200), |cases| {
        let mut command = vec!["EVAL".to_owned(), script.clone(), "0".to_owned()];
        command.extend(cases.iter().flat_map(Case::arguments));
        let reply = runtime.block_on(server.cli(&command)).unwrap();
        let occurrences = reply.texts();
        prop_assert_eq!(occurrences.len(), cases.len(), "{:?}", reply);
        for (case, occurrence) in cases.iter().zip(occurrences) {
            prop_assert_eq!(occurrence, case.model().to_string(), "{:?}", case);
        }
        Ok(())
    });
    agreed.unwrap();
}
