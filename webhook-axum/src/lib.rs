//! The HTTP API of the engine as an axum router.
