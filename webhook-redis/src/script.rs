//! The Lua scripts: one for each operation on a shard. All begin with the same text.

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

/// How a script begins that a server runs although its memory is full. What takes jobs out needs some first.
macro_rules! although_full {
    () => {
        "#!lua flags=allow-oom\n"
    };
}

macro_rules! scripts {
    ($($script:ident = $name:literal: $begin:expr, $file:literal;)*) => {
        $(
            pub(crate) static $script: LazyLock<Script> = LazyLock::new(|| {
                let text = concat!($begin, include_str!("lua/lanes.lua"), include_str!($file));
                Script::new($name, text)
            });
        )*
    };
}

scripts! {
    PUSH = "push": "", "lua/push.lua";
    CLAIM = "claim": although_full!(), "lua/claim.lua";
    EXTEND = "extend": although_full!(), "lua/extend.lua";
    SETTLE = "settle": although_full!(), "lua/settle.lua";
    HOLD = "hold": although_full!(), "lua/hold.lua";
    RELEASE = "release": although_full!(), "lua/release.lua";
    PARTS = "parts": although_full!(), "lua/parts.lua";
    DEPTH = "depth": although_full!(), "lua/depth.lua";
}
