//! Tells the macros that make the OpenAPI document what stands there for the core's types, which know nothing of it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "openapi")]
    openapi::alias();
}

#[cfg(feature = "openapi")]
mod openapi {
    /// Each has a schema, by its name and `Schema`, in `src/openapi/types.rs`.
    const OF_THE_CORE: [&str; 13] = [
        "AuditAction",
        "DeliveryStatus",
        "EndReason",
        "EndpointState",
        "EndpointUrl",
        "EventPattern",
        "EventType",
        "FailureCause",
        "PayloadFilter",
        "ReplayState",
        "StateReason",
        "Tenant",
        "Timestamp",
    ];

    /// What a request's type is in JSON.
    const IN_JSON: [(&str, &str); 7] = [
        ("GivenAction", "crate::openapi::types::AuditActionSchema"),
        ("GivenFilter", "crate::openapi::types::PayloadFilterSchema"),
        ("GivenSecret", "crate::openapi::types::SecretSchema"),
        ("GivenState", "crate::openapi::types::EndpointStateSchema"),
        ("Pairs", "std::collections::BTreeMap<String, String>"),
        ("RawValue", "serde_json::Value"),
        ("Seconds", "f64"),
    ];

    pub(super) fn alias() {
        let in_core = OF_THE_CORE.map(|name| format!("crate::openapi::types::{name}Schema"));
        let config = utoipa_config::Config::new();
        let config = (OF_THE_CORE.iter().zip(&in_core))
            .fold(config, |config, (name, path)| config.alias_for(name, path));
        let config = IN_JSON
            .iter()
            .fold(config, |config, (name, json)| config.alias_for(name, json));
        config.write_to_file();
    }
}
