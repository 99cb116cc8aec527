//! Conditions on a job's data.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::{Number, Value};

use crate::error::{Error, Result};
use crate::json;

/// Longest text of a condition, in bytes.
const TEXT_MAX: usize = 4_096;

/// A condition on the data of a job: a path and what is asked of the value there.
///
/// ```text
/// $.account == "17841400000000001"
/// $.items[0].sku contains "shirt"
/// $["odd name"].at >= "2026-11-01"
/// $.retryOf exists
/// ```
///
/// A path begins with `$`, the data itself. `.name` is a member of an object, where the name has none
/// of `.[]"=!<>` and no blanks; `["any name"]`, a JSON text, is one with any name; `[0]` is an element
/// of an array, from 0. There are no wildcards.
///
/// | operator | holds where the value |
/// |---|---|
/// | `exists` | is there, `null` included |
/// | `== value` | equals it; numbers by their value |
/// | `!= value` | is there and does not, or is not there |
/// | `contains value` | is text with that text in it, or an array with such an element |
/// | `> >= < <= value` | is so: numbers by their value, texts character by character |
///
/// A value is JSON: `"text"`, `12.5`, `true`, `null`, `["a"]`. What is of another type than asked for
/// does not match.
///
/// # Examples
///
/// ```
/// use oxbull::inspect::DataCondition;
///
/// let condition: DataCondition = r#"$.account.id == "42""#.parse()?;
/// assert!(condition.holds(&serde_json::json!({ "account": { "id": "42" } })));
///
/// let error = "account == 1".parse::<DataCondition>().unwrap_err();
/// assert_eq!(error.to_string(), "data condition must begin with $ (at character 1)");
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct DataCondition {
    path: Vec<Step>,
    test: Test,
}

#[derive(Clone, PartialEq)]
enum Step {
    Member(String),
    Element(usize),
}

#[derive(Clone, PartialEq)]
enum Test {
    Exists,
    Equals(Value),
    Differs(Value),
    Contains(Value),
    Less(Value),
    AtMost(Value),
    Greater(Value),
    AtLeast(Value),
}

// What is looked for may be as secret as the data.
impl fmt::Debug for DataCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataCondition").finish_non_exhaustive()
    }
}

impl DataCondition {
    /// Returns whether the condition holds for this data.
    pub fn holds(&self, data: &Value) -> bool {
        self.holds_for(data, false)
    }

    /// As [`holds`](Self::holds); `fold` makes `contains` ignore the case of letters.
    pub(super) fn holds_for(&self, data: &Value, fold: bool) -> bool {
        let found = self.path.iter().try_fold(data, |value, step| match step {
            Step::Member(name) => value.as_object()?.get(name),
            Step::Element(index) => value.as_array()?.get(*index),
        });
        let ordered = |with: &Value, orders: &[Ordering]| {
            found
                .and_then(|value| order(value, with))
                .is_some_and(|order| orders.contains(&order))
        };
        match &self.test {
            Test::Exists => found.is_some(),
            Test::Equals(value) => found.is_some_and(|found| equal(found, value)),
            Test::Differs(value) => !found.is_some_and(|found| equal(found, value)),
            Test::Contains(value) => found.is_some_and(|found| contains(found, value, fold)),
            Test::Less(value) => ordered(value, &[Ordering::Less]),
            Test::AtMost(value) => ordered(value, &[Ordering::Less, Ordering::Equal]),
            Test::Greater(value) => ordered(value, &[Ordering::Greater]),
            Test::AtLeast(value) => ordered(value, &[Ordering::Greater, Ordering::Equal]),
        }
    }
}

/// Returns whether `text` has `part` in it.
pub(super) fn has(text: &str, part: &str, fold: bool) -> bool {
    if fold {
        text.to_lowercase().contains(&part.to_lowercase())
    } else {
        text.contains(part)
    }
}

fn contains(value: &Value, part: &Value, fold: bool) -> bool {
    match (value, part) {
        (Value::String(text), Value::String(part)) => has(text, part, fold),
        (Value::Array(elements), part) => elements.iter().any(|element| equal(element, part)),
        _ => false,
    }
}

/// As `==`, but 1 equals 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => number_order(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (a, b) => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => number_order(a, b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn number_order(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Fails with [`Error::Invalid`], which says what is wrong and where, and does not show the text.
impl FromStr for DataCondition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > TEXT_MAX {
            let problem = format!("must not be longer than {TEXT_MAX} bytes");
            return Err(Error::invalid(FIELD, problem));
        }
        let mut parser = Parser { text, rest: text };
        parser.blanks();
        if !parser.eat("$") {
            return Err(parser.error("must begin with $"));
        }
        let mut path = Vec::new();
        while let Some(step) = parser.step()? {
            path.push(step);
        }
        parser.blanks();
        let test = parser.test()?;
        Ok(Self { path, test })
    }
}

const FIELD: &str = "data condition";

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Says what is wrong where the parser is.
    fn error(&self, problem: &str) -> Error {
        let parsed = self.text.len() - self.rest.len();
        let at = self
            .text
            .get(..parsed)
            .map_or(0, |text| text.chars().count());
        Error::invalid(FIELD, format!("{problem} (at character {})", at + 1))
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes what comes before the first character that ends it.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn step(&mut self) -> Result<Option<Step>> {
        if self.eat(".") {
            let name = self.until(|c| c.is_whitespace() || ".[]\"=!<>".contains(c));
            if name.is_empty() {
                return Err(self.error("needs a name behind the dot"));
            }
            return Ok(Some(Step::Member(name.to_owned())));
        }
        if !self.eat("[") {
            return Ok(None);
        }
        let step = if self.rest.starts_with('"') {
            let mut texts = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
            let Some(Ok(name)) = texts.next() else {
                return Err(self.error("needs a name in quotes that is JSON"));
            };
            let read = texts.byte_offset();
            self.rest = self.rest.get(read..).unwrap_or_default();
            Step::Member(name)
        } else {
            let mut ahead = Parser { ..*self };
            let digits = ahead.until(|c| !c.is_ascii_digit());
            let Ok(index) = digits.parse() else {
                return Err(self.error("needs a number or a name in quotes in the brackets"));
            };
            self.rest = ahead.rest;
            Step::Element(index)
        };
        if !self.eat("]") {
            return Err(self.error("needs a closing bracket"));
        }
        Ok(Some(step))
    }

    fn test(&mut self) -> Result<Test> {
        type Make = fn(Value) -> Test;
        const OPERATORS: [(&str, Make); 7] = [
            ("==", Test::Equals),
            ("!=", Test::Differs),
            ("<=", Test::AtMost),
            (">=", Test::AtLeast),
            ("<", Test::Less),
            (">", Test::Greater),
            ("contains", Test::Contains),
        ];
        let before = self.rest;
        if self.eat("exists") {
            self.blanks();
            if !self.rest.is_empty() {
                return Err(self.error("must end behind exists"));
            }
            return Ok(Test::Exists);
        }
        for (operator, test) in OPERATORS {
            if !self.eat(operator) {
                continue;
            }
            self.blanks();
            let Ok(value) = json::read(self.rest) else {
                let problem =
                    "needs a JSON value, such as \"text\", 12, true or null, behind the operator";
                return Err(self.error(problem));
            };
            return Ok(test(value));
        }
        self.rest = before;
        Err(self.error("needs one of ==, !=, <, <=, >, >=, contains and exists"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(condition: &str) -> bool {
        let data = json!({
            "id": 7, "price": 1.50, "big": 9_007_199_254_740_993_u64, "name": "Ada Lovelace",
            "none": null, "yes": true, "on": "2026-11-05", "tags": ["a", 2, { "x": [1] }],
            "a.b": { "": { "\"q\"": 1 } }, "größe": { "m-1": 3 },
        });
        let condition: DataCondition = condition.parse().unwrap();
        condition.holds(&data)
    }

    #[test]
    fn conditions_hold_where_they_say() {
        for condition in [
            "$.id == 7",
            "$.id == 7.0",
            "$.id==7",
            "  $.id  ==  7  ",
            "$.id != 8",
            "$.gone != 7",
            "$.price == 1.5",
            "$.price > 1",
            "$.price <= 1.5",
            "$.id >= 7",
            "$.id < 7.5",
            "$.big == 9007199254740993",
            "$.big > 9007199254740992",
            "$.none exists",
            "$.none == null",
            "$.yes == true",
            r#"$.name contains "da L""#,
            r#"$.on >= "2026-11-01""#,
            r#"$.on < "2026-12""#,
            "$.tags[1] == 2",
            r#"$.tags contains "a""#,
            "$.tags contains 2.0",
            r#"$.tags contains {"x":[1.0]}"#,
            "$.tags[2].x[0] == 1",
            r#"$["a.b"][""]["\"q\""] exists"#,
            "$.größe.m-1 == 3",
            "$ exists",
            r#"$.tags == ["a", 2, {"x": [1]}]"#,
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in [
            "$.id == \"7\"",
            "$.id != 7",
            "$.id > \"1\"",
            "$.gone exists",
            "$.gone == null",
            "$.gone < 1",
            "$.name contains \"da l\"",
            "$.name contains 1",
            "$.tags[9] exists",
            "$.tags.0 exists",
            "$.id[0] exists",
            "$.yes > false",
            "$.tags contains \"b\"",
            "$.id contains 7",
            "$.big == 9007199254740992",
            "$ == {}",
        ] {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn case_of_letters_is_ignored_on_request() {
        let condition: DataCondition = r#"$.name contains "LOVE""#.parse().unwrap();
        let data = json!({ "name": "Ada Lovelace" });
        assert!(!condition.holds_for(&data, false));
        assert!(condition.holds_for(&data, true));
    }

    #[test]
    fn errors_say_what_is_wrong_and_where() {
        for (text, problem) in [
            ("", "must begin with $ (at character 1)"),
            ("id == 7", "must begin with $ (at character 1)"),
            ("$. == 7", "needs a name behind the dot (at character 3)"),
            (
                "$.a..b == 7",
                "needs a name behind the dot (at character 5)",
            ),
            (
                "$.ä[x] == 7",
                "needs a number or a name in quotes in the brackets (at character 5)",
            ),
            (
                "$[-1] == 7",
                "needs a number or a name in quotes in the brackets (at character 3)",
            ),
            (
                "$[99999999999999999999] exists",
                "needs a number or a name in quotes in the brackets (at character 3)",
            ),
            ("$[1 == 7", "needs a closing bracket (at character 4)"),
            (
                "$[\"a] == 7",
                "needs a name in quotes that is JSON (at character 3)",
            ),
            (
                "$.a",
                "needs one of ==, !=, <, <=, >, >=, contains and exists (at character 4)",
            ),
            (
                "$.a = 7",
                "needs one of ==, !=, <, <=, >, >=, contains and exists (at character 5)",
            ),
            ("$.a exists 7", "must end behind exists (at character 12)"),
            (
                "$.a == seven",
                "needs a JSON value, such as \"text\", 12, true or null, behind the operator (at character 8)",
            ),
            (
                "$.a == 7 && $.b == 8",
                "needs a JSON value, such as \"text\", 12, true or null, behind the operator (at character 8)",
            ),
        ] {
            let error = text.parse::<DataCondition>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("data condition {problem}"),
                "{text}"
            );
        }
        let long = format!("$.a == \"{}\"", "x".repeat(TEXT_MAX));
        assert!(long.parse::<DataCondition>().is_err());
    }

    proptest! {
        /// Whatever is typed is read or refused.
        #[test]
        fn any_text_is_read_or_refused(text in "(\\$|)(\\.|\\[|\\]|\"|=|<|!|a|1| |ä|exists|contains){0,12}") {
            if let Ok(condition) = text.parse::<DataCondition>() {
                condition.holds(&json!({ "a": [1] }));
            }
        }
    }
}
