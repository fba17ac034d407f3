//! The queue passes the suites beside a store, on each topology.

mod support;

mod standalone {
    use super::support::{Beside, Standalone};

    webhook_core::engine_conformance!(Beside<Standalone>);
    webhook_core::store_conformance!(Beside<Standalone>);
    webhook_core::queue_conformance!(Beside<Standalone>);
}

mod cluster {
    use super::support::{Beside, Cluster};

    webhook_core::engine_conformance!(Beside<Cluster>);
    webhook_core::store_conformance!(Beside<Cluster>);
    webhook_core::queue_conformance!(Beside<Cluster>);
}

mod sharded_cluster {
    use super::support::{Beside, ShardedCluster};

    webhook_core::engine_conformance!(Beside<ShardedCluster>);
    webhook_core::store_conformance!(Beside<ShardedCluster>);
    webhook_core::queue_conformance!(Beside<ShardedCluster>);
}

mod sentinel {
    use super::support::{Beside, Sentinel};

    webhook_core::engine_conformance!(Beside<Sentinel>);
    webhook_core::store_conformance!(Beside<Sentinel>);
    webhook_core::queue_conformance!(Beside<Sentinel>);
}
