//! JSON Schemas, and whether data fits them. Pure, but for the time that it takes.

use std::io;
use std::thread;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::catalogue::SchemaViolation;
use crate::event::EventType;
use crate::payload;

/// What an error says of a place, or of what is wrong there, is cut at so many characters.
const MAX_SAID: usize = 300;
/// Up to so many steps down fit any thread's stack.
const SAFE_STEPS: usize = 400;
/// The stack that a step down takes at most, also in builds for debugging.
const STEP: usize = 3 * 1024;

/// A schema that was compiled.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    /// How many objects it is made of: a chain of references can be as long.
    objects: usize,
}

impl Schema {
    /// Compiles a schema's text; the error is for its author.
    ///
    /// It is resolved within itself: a reference to anything else is an error, and nothing is fetched. Its patterns
    /// run in an engine that takes linear time.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !schema.is_object() {
            return Err("it must be an object".to_owned());
        }
        let options = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex());
        let validator = options.build(&schema).map_err(|error| {
            let path = error.instance_path().as_str();
            let at = if path.is_empty() { "" } else { " at " };
            shortened(format!("{}{at}{path}", error.masked()))
        })?;
        Ok(Self {
            validator,
            objects: text.bytes().filter(|byte| *byte == b'{').count(),
        })
    }

    /// Whether `data`, which is JSON text, fits. Reads a copy of it.
    ///
    /// # Errors
    /// When what may go deep cannot have a thread of its own.
    pub(crate) fn check(
        &self,
        event_type: &EventType,
        data: &[u8],
    ) -> io::Result<Result<(), SchemaViolation>> {
        let violation = |path: &str, problem: String| SchemaViolation {
            event_type: event_type.clone(),
            path: shortened(path.to_owned()),
            problem: shortened(problem),
        };
        // A number beyond a 64-bit float, or a hundred and some levels: JSON, but nothing to be compared.
        let value: Value = match serde_json::from_slice(data) {
            Ok(value) => value,
            Err(error) => return Ok(Err(violation("", format!("it cannot be read: {error}")))),
        };
        let validate = || {
            let valid = self.validator.validate(&value);
            valid.map_err(|error| {
                violation(error.instance_path().as_str(), error.masked().to_string())
            })
        };
        let steps = self.objects.saturating_mul(payload::depth(data) + 1);
        with_stack_for(steps, validate)
    }
}

/// Runs `work`, which goes down so many steps at most: on a thread with a stack of its own if that of the caller
/// might not be enough, as a process that has run out of stack is gone. Memory that is not reached is not used.
fn with_stack_for<T: Send>(steps: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if steps <= SAFE_STEPS {
        return Ok(work());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(steps.saturating_mul(STEP));
        let worked = thread.spawn_scoped(scope, work)?.join();
        worked.map_err(|_| io::Error::other("the check panicked"))
    })
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SAID) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile(&schema.to_string())
    }

    fn check(schema: &Value, data: &str) -> Result<(), SchemaViolation> {
        let event_type = EventType::new("a").unwrap();
        let compiled = compile(schema).unwrap();
        compiled.check(&event_type, data.as_bytes()).unwrap()
    }

    #[test]
    fn a_violation_names_its_place_and_not_what_stands_there() {
        let schema = json!({
            "type": "object",
            "required": ["items"],
            "properties": {"items": {"items": {"properties": {"a/b": {"type": "integer"}}}}}
        });
        assert_eq!(check(&schema, r#"{"items":[{"a/b":1}]}"#), Ok(()));
        let violation = check(&schema, r#"{"items":[{},{"a/b":"s3cret"}]}"#).unwrap_err();
        assert_eq!(violation.path, "/items/1/a~1b");
        let said = violation.to_string();
        assert!(said.contains(" at /items/1/a~1b: "), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
        let violation = check(&schema, "{}").unwrap_err();
        assert_eq!(
            violation.to_string(),
            "the data does not fit the schema of a: \"items\" is a required property"
        );
    }

    #[test]
    fn what_is_said_is_short() {
        let schema = json!({"additionalProperties": {"enum": ["x".repeat(10_000)]}});
        let data = json!({"k".repeat(10_000): 1}).to_string();
        assert!(check(&schema, &data).unwrap_err().to_string().len() < 1_000);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for bad in [
            json!(true),
            json!([]),
            json!({"type": "intger"}),
            json!({"pattern": "("}),
            json!({"$schema": "https://example.com/own"}),
            json!({"$ref": "#/$defs/missing"}),
        ] {
            assert!(compile(&bad).is_err(), "{bad}");
        }
        let error = compile(&json!({"properties": {"n": {"minimum": "s3cret"}}})).unwrap_err();
        assert!(error.ends_with(" at /properties/n/minimum"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn nothing_is_fetched() {
        for outside in [
            "http://127.0.0.1:1/schema",
            "https://example.com/schema",
            "file:///etc/hostname",
            "other.json",
        ] {
            assert!(compile(&json!({"$ref": outside})).is_err(), "{outside}");
        }
        let meta = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
        assert!(check(&meta, r#"{"type":"integer"}"#).is_ok());
        let named = json!({"$id": "https://example.com/own", "type": "integer"});
        assert!(check(&named, "1").is_ok());
    }

    #[test]
    fn patterns_take_linear_time() {
        for refused in ["^(?=a)b", r"(a)\1"] {
            assert!(compile(&json!({"pattern": refused})).is_err(), "{refused}");
        }
        let evil = json!({"pattern": "^(a+)+$"});
        let data = format!("\"{}b\"", "a".repeat(100_000));
        assert!(check(&evil, &data).is_err());
    }

    /// The worst of each kind that fits into a schema and an event: it would end the process.
    #[test]
    fn no_schema_and_no_data_exhaust_the_stack() {
        let next = |n: usize| json!({"$ref": format!("#/$defs/{}", n + 1)});
        let mut chain: serde_json::Map<_, _> =
            (0..2_000).map(|n| (n.to_string(), next(n))).collect();
        let again = json!({"properties": {"a": {"$ref": "#/$defs/0"}}});
        chain.insert("2000".to_owned(), again);
        let chain = json!({"$defs": chain, "$ref": "#/$defs/0"});
        let mut nested = json!({"properties": {"a": {"$ref": "#"}}});
        for _ in 0..60 {
            nested = json!({"allOf": [nested]});
        }
        let deepest = format!("{}1{}", r#"{"a":"#.repeat(127), "}".repeat(127));
        for schema in [chain, nested, json!({"properties": {"a": {"$ref": "#"}}})] {
            assert_eq!(check(&schema, &deepest), Ok(()));
        }
        let too_deep = format!("{}1{}", r#"{"a":"#.repeat(128), "}".repeat(128));
        assert!(check(&json!({}), &too_deep).is_err());
    }

    #[test]
    fn references_in_a_circle_come_to_an_end() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
            json!({"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]}),
        ] {
            assert_eq!(check(&schema, "1"), Ok(()), "{schema}");
        }
    }

    #[test]
    fn numbers_that_nothing_compares_to_are_refused() {
        assert!(check(&json!({}), "1e400").is_err());
        assert!(check(&json!({"type": "integer"}), "12345678901234567890123").is_ok());
    }
}
