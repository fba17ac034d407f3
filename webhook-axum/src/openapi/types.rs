//! The schemas of the core's types. The core itself knows nothing of schemas: `build.rs` says which schema belongs to which
//! type.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Object, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use webhook_core as core;

macro_rules! schemas {
    ($($schema:ident as $name:literal: $is:expr;)*) => {$(
        pub(crate) enum $schema {}

        impl PartialSchema for $schema {
            fn schema() -> RefOr<Schema> {
                $is.into()
            }
        }

        impl ToSchema for $schema {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    )*};
}

schemas! {
    AuditActionSchema as "AuditAction": words(core::AuditAction::ALL.map(core::AuditAction::as_str))
        .description(Some("What was done, as resource and verb."));

    DeliveryStatusSchema as "DeliveryStatus": words([
        core::DeliveryStatus::Pending,
        core::DeliveryStatus::InProgress,
        core::DeliveryStatus::Succeeded,
        core::DeliveryStatus::Failed,
        core::DeliveryStatus::Cancelled,
    ].map(core::DeliveryStatus::as_str));

    EndReasonSchema as "EndReason": words([
        core::EndReason::Exhausted,
        core::EndReason::Permanent,
        core::EndReason::Expired,
        core::EndReason::Filtered,
        core::EndReason::Requested,
        core::EndReason::EndpointDeleted,
        core::EndReason::Corrupt,
    ].map(core::EndReason::as_str))
        .description(Some("Why a delivery has ended without success."));

    EndpointStateSchema as "EndpointState": words([
        core::EndpointState::Enabled,
        core::EndpointState::Paused,
        core::EndpointState::Disabled,
    ].map(core::EndpointState::as_str))
        .description(Some("Paused ones keep their deliveries waiting, disabled ones get none."));

    EndpointUrlSchema as "EndpointUrl": text("An absolute URL with https, or http where that is allowed.")
        .format(Some(SchemaFormat::Custom("uri".to_owned())))
        .max_length(Some(core::EndpointUrl::MAX_LEN))
        .examples([json!("https://example.com/hooks")]);

    EventPatternSchema as "EventPattern": text("An event type, all below a prefix, or all: `order.paid`, `order.*`, `*`.")
        .pattern(Some(r"^([A-Za-z0-9._-]{1,128}|\*|[A-Za-z0-9._-]{0,127}\.\*)$"))
        .examples([json!("order.*")]);

    EventTypeSchema as "EventType": text("What kind of event it is.")
        .pattern(Some(r"^[A-Za-z0-9._-]{1,128}$"))
        .examples([json!("order.paid")]);

    FailureCauseSchema as "FailureCause": words([core::FailureCause::Endpoint, core::FailureCause::System].map(core::FailureCause::as_str))
        .description(Some("Whose failure it is: the endpoint's, or the engine's."));

    PayloadFilterSchema as "PayloadFilter": Object::builder()
        .schema_type(Type::Object)
        .description(Some(
            "Conditions on fields of the body that is sent, by their paths; all must hold: a value that a field must \
             equal, or an object of the operators `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in` and `exists`. At most 256 \
             values in the list of an `in`, and 8 KiB in all.",
        ))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .min_properties(Some(1))
        .max_properties(Some(core::PayloadFilter::MAX_CONDITIONS))
        .examples([json!({"data.amount": {"gte": 100}})]);

    ReplayStateSchema as "ReplayState": words([
        core::ReplayState::Running,
        core::ReplayState::Completed,
        core::ReplayState::Cancelled,
    ].map(core::ReplayState::as_str));

    RetryDelaySchema as "RetryDelay": Object::builder()
        .schema_type(Type::Number)
        .minimum(Some(0))
        .maximum(Some(604_800));

    SecretSchema as "Secret": text("Signs what is sent.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)));

    StateReasonSchema as "StateReason": words([
        core::StateReason::Requested,
        core::StateReason::Gone,
        core::StateReason::Failing,
    ].map(core::StateReason::as_str))
        .description(Some("Why an endpoint is not enabled: on request, it answered 410, or nothing but failures came."));

    TenantSchema as "Tenant": text("Whose it is: at most 128 bytes, no white space, no control characters.")
        .min_length(Some(1))
        .max_length(Some(128))
        .pattern(Some(r"^[^\s\x00-\x20\x7f-\x9f]+$"))
        .examples([json!("acme")]);

    TimestampSchema as "Timestamp": text("RFC 3339, from 1970 to 9999.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples([json!("2026-01-31T08:00:00.000000Z")]);
}

fn text(description: &str) -> ObjectBuilder {
    Object::builder()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(description))
}

fn words<const N: usize>(words: [&'static str; N]) -> ObjectBuilder {
    Object::builder()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words))
}
