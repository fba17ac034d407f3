//! HMAC-SHA256 (RFC 2104) with the key already worked in.

use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The hash state after the key: cloning it costs less than the two blocks that keying hashes.
#[derive(Clone)]
pub(super) struct HmacKey(Hmac<Sha256>);

/// A signature of ours; comparing two takes the same time wherever they differ.
pub(super) type Tag = CtOutput<Hmac<Sha256>>;

impl HmacKey {
    pub(super) fn new(key: &[u8]) -> Self {
        // `new_from_slice` hashes a key longer than a block, and fails for none.
        match Hmac::new_from_slice(key) {
            Ok(keyed) => Self(keyed),
            Err(_) => unreachable!("HMAC accepts keys of any length"),
        }
    }

    pub(super) fn sign(&self, parts: &[&[u8]]) -> Tag {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize()
    }
}

pub(super) fn tag_from(bytes: [u8; 32]) -> Tag {
    CtOutput::new(bytes.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_keyed_state_is_erased_on_drop() {
        // `Hmac` has no marker of its own: it is two of these. Compiles only with `sha2/zeroize`.
        fn erased<T: zeroize::ZeroizeOnDrop>() {}
        erased::<sha2::block_api::Sha256VarCore>();
    }
}
