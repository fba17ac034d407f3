//! Free ports of the loopback interface.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::Result;

/// From here on up: below the ports that the kernel gives to connections, also with [`BUS`] added.
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;

/// What Redis Cluster adds for the port on which its nodes talk.
const BUS: u16 = 10_000;

/// A port that nothing uses now, nor the one of a Redis Cluster's bus beside it. Never the same twice, and
/// processes look in different places.
pub(super) fn free() -> Result<u16> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = candidate(std::process::id(), tried);
        if [port, port + BUS].into_iter().all(is_free) {
            return Ok(port);
        }
    }
    Err("no port is free".to_owned())
}

fn candidate(process: u32, tried: u16) -> u16 {
    let start = process.wrapping_mul(97) % u32::from(COUNT);
    let offset = (start + u32::from(tried)) % u32::from(COUNT);
    FIRST + u16::try_from(offset).unwrap_or(0)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_stay_in_their_range_and_away_from_other_processes() {
        for (process, tried) in [(0, 0), (1, 9_999), (u32::MAX, u16::MAX)] {
            assert!((FIRST..FIRST + COUNT).contains(&candidate(process, tried)));
        }
        assert_eq!(candidate(7, 1), candidate(7, 0) + 1);
        assert!(candidate(8, 0).abs_diff(candidate(7, 0)) > 50);
    }

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let port = free().unwrap();
        assert_ne!(free().unwrap(), port);
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(!is_free(taken.local_addr().unwrap().port()));
    }
}
