//! Which events an endpoint wants: by type, and by what is in the payload.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Number, Value};

use crate::event::{EventType, InvalidEvent};
use crate::payload::{Node, Payload};

/// A pattern of event types: one type (`order.paid`), everything below a prefix (`order.*`, which is
/// `order.paid` and `order.item.added`, not `order`), or everything (`*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventPattern {
    /// Every type.
    Any,
    /// Every type that begins with this prefix, which ends in a dot.
    Below(Box<str>),
    /// This type.
    Exactly(EventType),
}

impl EventPattern {
    /// Whether `event_type` is one of those meant.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self {
            Self::Any => true,
            Self::Below(prefix) => {
                event_type.as_str().len() > prefix.len()
                    && event_type.as_str().starts_with(&**prefix)
            }
            Self::Exactly(wanted) => wanted == event_type,
        }
    }
}

impl FromStr for EventPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = |_: InvalidEvent| InvalidPattern;
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Any),
            Some(prefix) if prefix.ends_with('.') => {
                EventType::new(prefix).map_err(invalid)?;
                Ok(Self::Below(prefix.into()))
            }
            Some(_) => Err(InvalidPattern),
            None => EventType::new(text).map(Self::Exactly).map_err(invalid),
        }
    }
}

/// The text is not a pattern of event types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is an event type (order.paid), a prefix with .* (order.*) or *")]
pub struct InvalidPattern;

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::Exactly(event_type) => fmt::Display::fmt(event_type, f),
        }
    }
}

impl Serialize for EventPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Conditions on fields of the body that is sent; all must hold.
///
/// A JSON object from a field's path to a value it must equal, or to an object of operators:
/// `{"data.currency": "EUR", "data.amount": {"gte": 100}}`. Operators are `eq`, `ne`, `gt`, `gte`, `lt`,
/// `lte` (numbers with numbers, strings with strings), `in` (a list) and `exists` (a boolean). Path
/// segments name object fields or, as digits, array items. A field that is absent satisfies only `ne`
/// and `exists: false`. Numbers compare as 64-bit floats. What stands beside the fields does not matter.
///
/// A filter is in memory wherever its endpoint is, and judged at each attempt: so it has at most
/// [`MAX_CONDITIONS`](Self::MAX_CONDITIONS), lists of at most [`MAX_IN`](Self::MAX_IN) values, and
/// [`MAX_LEN`](Self::MAX_LEN) bytes in all.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadFilter {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: String,
    tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Eq(Value),
    Ne(Value),
    Gt(Value),
    Gte(Value),
    Lt(Value),
    Lte(Value),
    In(Vec<Value>),
    Exists(bool),
}

/// Why a payload filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFilter {
    /// The filter is not an object, or holds more than 32 conditions.
    #[error(
        "a filter is an object of 1 to 32 conditions, such as {{\"data.amount\": {{\"gte\": 100}}}}"
    )]
    Shape,
    /// A path is empty, has an empty segment, or is longer than 256 bytes.
    #[error("{0:?} is not a path such as data.amount")]
    Path(String),
    /// An operator is unknown or its operand has the wrong type.
    #[error("{path:?}: {operator:?} is not an operator, or its operand has the wrong type")]
    Operator {
        /// The field's path.
        path: String,
        /// The operator as given.
        operator: String,
    },
    /// The list of an `in` is longer than [`PayloadFilter::MAX_IN`].
    #[error("{0:?}: the list of \"in\" holds more than {max} values", max = PayloadFilter::MAX_IN)]
    List(String),
    /// A number is beyond all 64-bit floats.
    #[error("a filter's numbers are 64-bit floats, and one of these is larger than all of them")]
    Number,
    /// The filter is longer than [`PayloadFilter::MAX_LEN`] with its operators written out.
    #[error("a filter has at most {max} bytes", max = PayloadFilter::MAX_LEN)]
    Length,
}

/// What of a payload filter does not hold for a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterMiss {
    /// The body is not JSON.
    NoJson,
    /// This condition.
    Condition {
        /// The field's path.
        path: String,
        /// The operator and its operand, up to 200 characters: `gte 100`.
        condition: String,
        /// Whether there is no such field.
        is_absent: bool,
    },
    /// The filter of today would let the body through; the one that refused it was another.
    Changed,
}

impl fmt::Display for FilterMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJson => f.write_str("it is not JSON"),
            Self::Condition {
                path,
                condition,
                is_absent,
            } => {
                let absent = if *is_absent { ", which is absent" } else { "" };
                write!(f, "{path}{absent}: {condition}")
            }
            Self::Changed => f.write_str("the filter was another one then"),
        }
    }
}

impl PayloadFilter {
    /// How many fields it has conditions on, at most.
    pub const MAX_CONDITIONS: usize = 32;
    /// How many values the list of an `in` holds, at most.
    pub const MAX_IN: usize = 256;
    /// How many bytes its [JSON form](Self::to_json) has, at most.
    pub const MAX_LEN: usize = 8 * 1_024;

    /// Parses the JSON form.
    ///
    /// # Errors
    /// When the form is wrong, or too large; the error says where.
    pub fn new(filter: &Value) -> Result<Self, InvalidFilter> {
        if has_large_number(filter) {
            return Err(InvalidFilter::Number);
        }
        let filter = Self::of_any_size(filter)?;
        let long = filter.conditions.iter().find(|it| it.has_long_list());
        match long {
            Some(long) => Err(InvalidFilter::List(long.path.clone())),
            None if filter.to_json().to_string().len() > Self::MAX_LEN => {
                Err(InvalidFilter::Length)
            }
            None => Ok(filter),
        }
    }

    /// As it was stored, maybe before there were limits.
    pub(crate) fn stored<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Self>, D::Error> {
        let stored = Option::<Value>::deserialize(deserializer)?;
        let filter = stored.map(|stored| Self::of_any_size(&stored));
        filter.transpose().map_err(D::Error::custom)
    }

    fn of_any_size(filter: &Value) -> Result<Self, InvalidFilter> {
        let fields = filter
            .as_object()
            .filter(|fields| (1..=Self::MAX_CONDITIONS).contains(&fields.len()));
        let fields = fields.ok_or(InvalidFilter::Shape)?;
        let conditions = fields
            .iter()
            .map(|(path, wanted)| Condition::new(path, wanted));
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }

    /// Whether `body` is JSON and satisfies every condition. Anything else does not match.
    #[must_use]
    pub fn matches(&self, body: &[u8]) -> bool {
        self.miss(&Payload::new(body)).is_none()
    }

    /// What does not hold for a body: of several conditions the first.
    #[must_use]
    pub fn miss(&self, payload: &Payload<'_>) -> Option<FilterMiss> {
        let Some(body) = payload.root() else {
            return Some(FilterMiss::NoJson);
        };
        let mut conditions = self.conditions.iter();
        conditions.find_map(|condition| condition.miss(body))
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let condition = |condition: &Condition| (condition.path.clone(), condition.to_json());
        Value::Object(self.conditions.iter().map(condition).collect())
    }
}

impl Condition {
    fn new(path: &str, wanted: &Value) -> Result<Self, InvalidFilter> {
        if path.len() > 256 || path.split('.').any(str::is_empty) {
            return Err(InvalidFilter::Path(path.to_owned()));
        }
        let tests = match wanted.as_object() {
            None => vec![Test::Eq(wanted.clone())],
            Some(operators) if operators.is_empty() => {
                return Err(InvalidFilter::Operator {
                    path: path.to_owned(),
                    operator: String::new(),
                });
            }
            Some(operators) => {
                let test = |(operator, operand): (&String, &Value)| {
                    Test::new(operator, operand).ok_or_else(|| InvalidFilter::Operator {
                        path: path.to_owned(),
                        operator: String::clone(operator),
                    })
                };
                operators.iter().map(test).collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            tests,
        })
    }

    fn has_long_list(&self) -> bool {
        let is_long =
            |test: &Test| matches!(test, Test::In(list) if list.len() > PayloadFilter::MAX_IN);
        self.tests.iter().any(is_long)
    }

    fn miss(&self, body: &Node<'_>) -> Option<FilterMiss> {
        let field = body.at(&self.path);
        let failed = self.tests.iter().find(|test| !test.holds(field))?;
        let (operator, operand) = failed.to_json();
        Some(FilterMiss::Condition {
            path: self.path.clone(),
            condition: shortened(format!("{operator} {operand}")),
            is_absent: field.is_none(),
        })
    }

    fn to_json(&self) -> Value {
        Value::Object(self.tests.iter().map(Test::to_json).collect())
    }
}

impl Test {
    fn new(operator: &str, operand: &Value) -> Option<Self> {
        let comparable = (operand.is_number() || operand.is_string()).then(|| operand.clone());
        Some(match operator {
            "eq" => Self::Eq(operand.clone()),
            "ne" => Self::Ne(operand.clone()),
            "gt" => Self::Gt(comparable?),
            "gte" => Self::Gte(comparable?),
            "lt" => Self::Lt(comparable?),
            "lte" => Self::Lte(comparable?),
            "in" => Self::In(operand.as_array()?.clone()),
            "exists" => Self::Exists(operand.as_bool()?),
            _ => return None,
        })
    }

    fn holds(&self, node: Option<&Node<'_>>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        if let Self::Exists(wanted) = self {
            return node.is_some() == *wanted;
        }
        let field = node.and_then(Node::value);
        let is = |wanted: &Value, orders: &[std::cmp::Ordering]| {
            field
                .and_then(|field| compare(field, wanted))
                .is_some_and(|order| orders.contains(&order))
        };
        match self {
            Self::Eq(wanted) => field.is_some_and(|field| same(field, wanted)),
            Self::Ne(wanted) => !field.is_some_and(|field| same(field, wanted)),
            Self::Gt(wanted) => is(wanted, &[Greater]),
            Self::Gte(wanted) => is(wanted, &[Greater, Equal]),
            Self::Lt(wanted) => is(wanted, &[Less]),
            Self::Lte(wanted) => is(wanted, &[Less, Equal]),
            Self::In(wanted) => {
                field.is_some_and(|field| wanted.iter().any(|one| same(field, one)))
            }
            Self::Exists(_) => false,
        }
    }

    fn to_json(&self) -> (String, Value) {
        let (operator, operand) = match self {
            Self::Eq(value) => ("eq", value.clone()),
            Self::Ne(value) => ("ne", value.clone()),
            Self::Gt(value) => ("gt", value.clone()),
            Self::Gte(value) => ("gte", value.clone()),
            Self::Lt(value) => ("lt", value.clone()),
            Self::Lte(value) => ("lte", value.clone()),
            Self::In(values) => ("in", Value::Array(values.clone())),
            Self::Exists(exists) => ("exists", Value::Bool(*exists)),
        };
        (operator.to_owned(), operand)
    }
}

/// Lists may be long.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether two values are equal, with the numbers in them as floats, in whatever form they came: a host's build may let
/// `serde_json` keep the text of numbers, and texts of one number differ.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let has = |(name, b): (&String, &Value)| a.get(name).is_some_and(|a| same(a, b));
            a.len() == b.len() && b.iter().all(has)
        }
        _ => compare(a, b).map_or_else(|| a == b, std::cmp::Ordering::is_eq),
    }
}

/// The order of two numbers or two strings; of anything else there is none.
fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => float(a)?.partial_cmp(&float(b)?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// A number as it is compared: beyond all floats it is the last one.
fn float(number: &Number) -> Option<f64> {
    let large = || number.to_string().parse().ok();
    let float = number.as_f64().or_else(large)?;
    Some(float.clamp(f64::MIN, f64::MAX))
}

/// Whether a number in it is beyond all floats. Only builds in which `serde_json` keeps the text of numbers read it at
/// all, and no other could read what these store.
fn has_large_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_none(),
        Value::Array(items) => items.iter().any(has_large_number),
        Value::Object(fields) => fields.values().any(has_large_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

impl Serialize for PayloadFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields: BTreeMap<_, _> = self
            .conditions
            .iter()
            .map(|c| (&c.path, c.to_json()))
            .collect();
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PayloadFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_mean_a_type_a_prefix_or_everything() {
        let matches = |pattern: &str, event_type: &str| {
            let pattern: EventPattern = pattern.parse().unwrap();
            pattern.matches(&EventType::new(event_type).unwrap())
        };
        assert!(matches("order.paid", "order.paid"));
        assert!(!matches("order.paid", "order.paid.late"));
        assert!(matches("order.*", "order.paid"));
        assert!(matches("order.*", "order.item.added"));
        assert!(!matches("order.*", "order"));
        assert!(!matches("order.*", "orders.paid"));
        assert!(!matches("order.*", "order."));
        assert!(matches("*", "anything"));
        for bad in [
            "",
            "order*",
            "*.paid",
            "order.*.paid",
            "or der",
            "**",
            ".*x",
        ] {
            assert_eq!(bad.parse::<EventPattern>(), Err(InvalidPattern), "{bad}");
        }
    }

    #[test]
    fn conditions_are_judged_as_documented() {
        let body = br#"{"type":"a","data":{"amount":100,"to":"DE","tags":["x","y"],"none":null,"big":1e300}}"#;
        let matches = |filter: Value| PayloadFilter::new(&filter).unwrap().matches(body);
        assert!(matches(json!({"data.amount": 100.0})));
        assert!(matches(
            json!({"data.amount": {"gte": 100, "lt": 101}, "data.to": "DE"})
        ));
        assert!(!matches(json!({"data.amount": {"gt": 100}})));
        assert!(!matches(json!({"data.amount": {"gt": "1"}})));
        assert!(matches(json!({"data.to": {"in": ["AT", "DE"]}})));
        assert!(matches(json!({"data.tags.1": "y"})));
        assert!(!matches(json!({"data.tags.2": "y"})));
        assert!(matches(json!({"data.none": null})));
        assert!(!matches(json!({"data.absent": null})));
        assert!(matches(
            json!({"data.absent": {"ne": 1}, "data.none": {"exists": true}})
        ));
        assert!(matches(
            json!({"data.absent": {"exists": false}, "data.big": {"gt": 1}})
        ));
        assert!(matches(json!({"data.to": {"gt": "D", "lte": "DE"}})));
    }

    #[test]
    fn a_miss_names_the_field_and_the_comparison() {
        let filter = json!({"data.amount": {"gt": 1, "lt": 100}, "data.to": "DE"});
        let filter = PayloadFilter::new(&filter).unwrap();
        let miss = |body: &str| {
            filter
                .miss(&Payload::new(body.as_bytes()))
                .map(|miss| miss.to_string())
        };
        assert_eq!(miss(r#"{"data":{"amount":7,"to":"DE"}}"#), None);
        for (body, said) in [
            (
                r#"{"data":{"amount":100,"to":"DE"}}"#,
                "data.amount: lt 100",
            ),
            (r#"{"data":{"amount":7,"to":"AT"}}"#, r#"data.to: eq "DE""#),
            (
                r#"{"data":{"amount":7}}"#,
                r#"data.to, which is absent: eq "DE""#,
            ),
            ("{", "it is not JSON"),
        ] {
            assert_eq!(miss(body).as_deref(), Some(said), "{body}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_matches_nothing() {
        let filter = PayloadFilter::new(&json!({"a": {"exists": false}})).unwrap();
        assert!(filter.matches(b"{}"));
        assert!(!filter.matches(b"\xff"));
    }

    #[test]
    fn a_filter_sees_its_fields_whatever_stands_beside_them() {
        let filter = json!({"data.amount": {"gte": 100}, "data.deep": {"exists": true, "ne": [1]}});
        let filter = PayloadFilter::new(&filter).unwrap();
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        for (amount, large, expected) in [
            ("100", "1e400", true),
            ("99", "1e400", false),
            ("1e400", "1", true),
            ("-1e400", "1", false),
        ] {
            let fields = format!(r#""amount":{amount},"deep":{deep},"large":{large}"#);
            for half_a_pair in ["", r#","\ud800":1"#] {
                let body = format!(r#"{{"data":{{{fields}{half_a_pair}}}}}"#);
                assert_eq!(filter.matches(body.as_bytes()), expected, "{body}");
            }
        }
    }

    #[test]
    fn wrong_filters_are_refused_and_right_ones_round_trip() {
        for bad in [
            json!([]),
            json!({}),
            json!({"": 1}),
            json!({"a..b": 1}),
            json!({"a": {}}),
            json!({"a": {"near": 1}}),
            json!({"a": {"gt": null}}),
            json!({"a": {"in": 1}}),
            json!({"a": {"exists": 1}}),
        ] {
            assert!(PayloadFilter::new(&bad).is_err(), "{bad}");
        }
        let filter = json!({"a": {"gte": 1, "lt": 5}, "b.c": {"in": ["x"]}});
        assert_eq!(PayloadFilter::new(&filter).unwrap().to_json(), filter);
    }

    #[test]
    fn a_filter_is_of_bounded_size() {
        let list = |values: usize| json!({"data.a": {"in": vec![1; values]}});
        assert!(PayloadFilter::new(&list(256)).is_ok());
        let long = InvalidFilter::List("data.a".to_owned());
        assert_eq!(PayloadFilter::new(&list(257)), Err(long));
        // {"a":{"eq":""}} around it.
        let text = |bytes: usize| json!({"a": "x".repeat(bytes - 15)});
        assert!(PayloadFilter::new(&text(8 * 1_024)).is_ok());
        for large in [text(8 * 1_024 + 1), json!({"a": {"eq": vec![0; 5_000]}})] {
            assert_eq!(PayloadFilter::new(&large), Err(InvalidFilter::Length));
            assert!(serde_json::from_value::<PayloadFilter>(large).is_err());
        }
    }

    #[test]
    fn numbers_are_the_same_in_whatever_form_they_are_written() {
        let filter = |text: &str| PayloadFilter::new(&serde_json::from_str(text).unwrap()).unwrap();
        for (wanted, bodies) in [
            ("100", ["100.0", "1e2", "1E+2"]),
            (
                "[1, {\"a\": 0.5}]",
                [
                    "[1.0,{\"a\":5e-1}]",
                    "[1e0,{\"a\":0.50}]",
                    "[1,{\"a\":0.5}]",
                ],
            ),
            (
                "{\"in\": [[7], 18446744073709551616]}",
                [
                    "[7.0]",
                    "18446744073709551616.0",
                    "1.8446744073709551616e19",
                ],
            ),
            ("{\"gte\": 1e308}", ["1e400", "2e308", "1e308"]),
            (
                "{\"lt\": -1e308, \"ne\": 0}",
                ["-1e400", "-2e308", "-1.5e308"],
            ),
        ] {
            let filter = filter(&format!("{{\"data\": {wanted}}}"));
            for body in bodies {
                let body = format!("{{\"data\":{body}}}");
                assert!(filter.matches(body.as_bytes()), "{wanted} {body}");
            }
        }
        for (wanted, body) in [("[1, 2]", "[1]"), ("[1]", "[2]"), ("[[1]]", "[[\"1\"]]")] {
            let filter = filter(&format!("{{\"data\": {wanted}}}"));
            assert!(!filter.matches(format!("{{\"data\":{body}}}").as_bytes()));
        }
    }

    #[test]
    fn no_filter_has_a_number_beyond_all_floats_even_where_it_can_be_read() {
        for text in ["1e400", "{\"gt\": 1e400}", "{\"in\": [[-1e400]]}"] {
            let read = serde_json::from_str(&format!("{{\"data\": {text}}}"));
            let accepted = read.is_ok_and(|read: Value| PayloadFilter::new(&read).is_ok());
            assert!(!accepted, "{text}");
        }
    }

    #[test]
    fn an_object_is_no_number_whatever_its_field_is_called() {
        let filter = PayloadFilter::new(&json!({"data": {"gte": 1}})).unwrap();
        for name in ["Number", "RawValue"] {
            let body = format!("{{\"data\":{{\"$serde_json::private::{name}\":\"7\"}}}}");
            assert!(!filter.matches(body.as_bytes()), "{name}");
        }
    }
}
