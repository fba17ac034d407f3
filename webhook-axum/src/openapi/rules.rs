//! Adds to every operation what holds for all operations of its kind, so that handlers need not repeat it.

use utoipa::ToSchema as _;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{KnownFormat, Object, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, HeaderBuilder, OpenApi, Ref, RefOr, Required};

use super::types::EventTypeSchema;
use crate::error::ErrorBody;

const SCHEME: &str = "bearer";

/// What a request may be refused with: the status, the name in the document, when.
const REFUSALS: [(&str, &str, &str); 7] = [
    (
        "400",
        "BadRequest",
        "The request is malformed, or holds what is invalid or unknown.",
    ),
    ("401", "Unauthorized", "It is not known who calls."),
    (
        "403",
        "Forbidden",
        "The caller may not do this, or it is another tenant's.",
    ),
    (
        "404",
        "NotFound",
        "There is none, or it is another tenant's.",
    ),
    ("413", "TooLarge", "The body is too long."),
    (
        "415",
        "UnsupportedMediaType",
        "The body is not said to be JSON.",
    ),
    (
        "503",
        "Unavailable",
        "The store failed or cannot be reached. The request may or may not have been carried out; try again, and send events \
         with an idempotency key. Or, with the code `overloaded` and `Retry-After`: the store is there, but too much is asked of \
         it at once.",
    ),
];

/// The layer before these routes asks who calls, and all of them ask the store.
pub(super) fn guard(document: &mut OpenApi) {
    for (_, operation) in operations(document) {
        operation.security = Some(vec![SecurityRequirement::new(SCHEME, [""; 0])]);
        refuses(operation, &["401", "403", "503"]);
    }
}

/// What the extractors make of an operation's path, query and body.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, operation) in operations(document) {
        name(&path, operation);
        take_from_path(&path, operation);
        take_from_query(operation);
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            may_be_left_out(body);
            refuses(operation, &["400", "413", "415"]);
        }
        say_why(operation);
    }
    let components = document.components.get_or_insert_default();
    for (status, name, when) in REFUSALS {
        let refusal = refusal(status, when);
        components.responses.insert(name.to_owned(), refusal.into());
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer.build()));
}

/// All of the document's, with their paths.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = (String, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let PathItem {
            get,
            put,
            post,
            delete,
            patch,
            ..
        } = item;
        let found = [get, put, post, delete, patch].into_iter().flatten();
        found.map(|operation| (path.clone(), operation))
    })
}

/// Handlers of all resources have the same names, an operation's is its own.
fn name(path: &str, operation: &mut Operation) {
    let resource = path.split(['/', '.']).nth(1).unwrap_or_default();
    let handler = operation.operation_id.take().unwrap_or_default();
    operation.operation_id = Some(format!("{}_{handler}", resource.replace('-', "_")));
    operation.tags = Some(vec![resource.to_owned()]);
}

/// An `{id}` is a UUID and a `{name}` that of an event type, unless the handler says something else.
fn take_from_path(path: &str, operation: &mut Operation) {
    let known = [
        ("id", uuid()),
        (
            "name",
            Ref::from_schema_name(EventTypeSchema::name()).into(),
        ),
    ];
    for (name, schema) in known {
        if path.contains(&format!("{{{name}}}")) {
            let given = Parameter::builder()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(schema));
            let parameters = operation.parameters.get_or_insert_default();
            let is_said = |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.name == name);
            if !parameters.iter().any(is_said) {
                parameters.push(given.build().into());
            }
            refuses(operation, &["400"]);
        }
    }
    if path.contains("{id}") {
        refuses(operation, &["404"]);
    }
}

fn uuid() -> RefOr<Schema> {
    let text = Object::builder().schema_type(Type::String);
    text.format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .into()
}

/// A parameter may be left out, and is never `null`.
fn take_from_query(operation: &mut Operation) {
    let parameters = operation.parameters.iter_mut().flatten();
    let mut takes_any = false;
    for parameter in parameters {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        takes_any = true;
        if let Some(schema) = parameter.schema.take() {
            parameter.schema = Some(without_null(schema));
        }
    }
    if takes_any {
        refuses(operation, &["400"]);
    }
}

/// An optional body is no `null`.
fn may_be_left_out(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else {
            continue;
        };
        let Some(schema) = content.schema.take() else {
            continue;
        };
        let plain = without_null(schema.clone());
        body.required = Some(if plain == schema {
            Required::True
        } else {
            Required::False
        });
        content.schema = Some(plain);
    }
}

/// What is not `null` of an optional schema.
fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::OneOf(one_of)) = &schema else {
        return schema;
    };
    let is_null = |item: &&RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(one)) if one.schema_type == Type::Null.into());
    let mut others = one_of.items.iter().filter(|item| !is_null(item));
    match (others.next(), others.next()) {
        (Some(other), None) => other.clone(),
        _ => schema,
    }
}

fn refuses(operation: &mut Operation, statuses: &[&str]) {
    for (status, name, _) in REFUSALS {
        if statuses.contains(&status) {
            let responses = &mut operation.responses.responses;
            let refusal = RefOr::Ref(Ref::from_response_name(name));
            responses.entry(status.to_owned()).or_insert(refusal);
        }
    }
}

/// What a handler says of a refusal is when it comes: what it holds is always the same.
fn say_why(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        match response {
            RefOr::T(response) if status.starts_with(['4', '5']) => {
                *response = refusal(status, &response.description);
            }
            RefOr::T(response) if response.description.is_empty() => {
                "What was asked for.".clone_into(&mut response.description);
            }
            _ => {}
        }
    }
}

fn refusal(status: &str, when: &str) -> Response {
    let body = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
    let refusal = ResponseBuilder::new().description(when);
    let refusal = refusal.content("application/json", body);
    let refusal = match status {
        "401" => refusal.header("www-authenticate", HeaderBuilder::new().build()),
        "503" => refusal.header("retry-after", HeaderBuilder::new().build()),
        _ => refusal,
    };
    refusal.build()
}
