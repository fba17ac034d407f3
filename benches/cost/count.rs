//! Counting, and what is said of it.

use std::alloc::System;
use std::hint::black_box;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::Result;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Counts what something costs.
#[derive(Default)]
pub(crate) struct Counter {
    /// How often callgrind has written down what it counted.
    dumps: u32,
}

/// What something cost.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// In which dump its instructions are.
    dump: u32,
    pub(crate) allocations: usize,
    pub(crate) bytes: usize,
}

impl Counter {
    /// Does it once uncounted, so that what is made lazily is there, and then once more.
    pub(crate) fn warm<T>(&mut self, mut work: impl FnMut() -> Result<T>) -> Result<Cost> {
        work()?;
        Ok(self.once(work)?.0)
    }

    /// Does it once.
    pub(crate) fn once<T>(&mut self, mut work: impl FnMut() -> Result<T>) -> Result<(Cost, T)> {
        let mut result = None;
        let region = Region::new(ALLOCATOR);
        counted(&mut || result = Some(black_box(work())));
        let change = region.change();
        self.dumps += 1;
        let cost = Cost {
            dump: self.dumps,
            allocations: change.allocations + change.reallocations,
            bytes: change.bytes_allocated,
        };
        Ok((cost, result.ok_or("nothing was done")??))
    }
}

/// Callgrind knows it by its name: it counts anew from where this begins, and writes down what it has where it ends.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// A comparison.
pub(crate) struct Row(&'static str);

impl Row {
    pub(crate) fn of(operation: &'static str) -> Self {
        Self(operation)
    }

    /// Its instructions by so many times those of the yardstick.
    pub(crate) fn instructions(
        self,
        cost: Cost,
        yardstick: &str,
        base: Cost,
        times: u32,
        limit: f64,
    ) {
        let (cost, base) = (format!("1@{}", cost.dump), format!("{times}@{}", base.dump));
        self.print("instructions", &cost, yardstick, &base, limit);
    }

    /// The number of its allocations.
    pub(crate) fn allocations(self, cost: usize, yardstick: &str, base: usize, limit: f64) {
        let (cost, base) = (cost.to_string(), base.to_string());
        self.print("allocations", &cost, yardstick, &base, limit);
    }

    /// The bytes that it allocated.
    pub(crate) fn bytes(self, cost: usize, yardstick: &str, base: usize, limit: f64) {
        let (cost, base) = (cost.to_string(), base.to_string());
        self.print("bytes", &cost, yardstick, &base, limit);
    }

    fn print(self, unit: &str, cost: &str, yardstick: &str, base: &str, limit: f64) {
        println!("{}\t{unit}\t{cost}\t{yardstick}\t{base}\t{limit}", self.0);
    }
}
