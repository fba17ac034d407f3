//! The Lua scripts: one for each operation that touches a shard, each after the same beginning.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sha1::{Digest, Sha1};

/// A script, and the hash by which a server that has seen it knows it.
pub(crate) struct Script {
    /// The name of the trait method.
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) sha1: String,
}

impl Script {
    fn new(name: &'static str, text: &'static str) -> Self {
        let mut sha1 = String::with_capacity(40);
        for byte in Sha1::digest(text) {
            // Writing to a string cannot fail.
            let _ = write!(sha1, "{byte:02x}");
        }
        Self { name, text, sha1 }
    }
}

macro_rules! scripts {
    ($($script:ident = $name:literal: $file:literal;)*) => {
        $(
            pub(crate) static $script: LazyLock<Script> = LazyLock::new(|| {
                Script::new($name, concat!(include_str!("lua/lanes.lua"), include_str!($file)))
            });
        )*
    };
}

scripts! {
    PUSH = "push": "lua/push.lua";
    CLAIM = "claim": "lua/claim.lua";
    EXTEND = "extend": "lua/extend.lua";
    SETTLE = "settle": "lua/settle.lua";
    HOLD = "hold": "lua/hold.lua";
    RELEASE = "release": "lua/release.lua";
    PARTS = "parts": "lua/parts.lua";
    DEPTH = "depth": "lua/depth.lua";
}
