//! What becomes of old days: they go, but for what is still needed of them.

mod common;

use std::time::Duration;

use common::{Schema, new_name, pool};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use uuid::Uuid;
use webhook_core::testing::{endpoint_for, event_for, run};
use webhook_core::{
    Changed, ClaimOptions, Delivery, EndpointSettings, Event, InsertOptions, OnConflict, Scope,
    Store, Timestamp, Verdict,
};
use webhook_postgres::PgStore;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
const OLD: &str = "SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent IN (
        'webhook.events'::regclass, 'webhook.deliveries_history'::regclass, 'webhook.attempts'::regclass
    ) AND relname LIKE '%_20231114'";

/// A schema with partitions of the first day.
struct World {
    schema: Schema,
    start: Timestamp,
}

impl World {
    async fn new() -> Self {
        let schema = Schema::new().await;
        let start = Timestamp::from_seconds(1_700_000_000);
        let world = Self { schema, start };
        let endpoint = endpoint_for("default", EndpointSettings::default());
        let stored = world.store().insert_endpoint(&endpoint, usize::MAX).await;
        stored.expect("an endpoint is stored");
        world.maintain(0).await;
        assert_eq!(world.partitions().await, 3);
        world
    }

    fn store(&self) -> &PgStore {
        &self.schema.store
    }

    fn day(&self, day: u32) -> Option<Timestamp> {
        Some(self.start + day * DAY)
    }

    async fn maintain(&self, day: u32) {
        let kept = self.store().maintain(RETENTION, self.day(day)).await;
        kept.expect("keeps house");
    }

    /// How many partitions the first day has.
    async fn partitions(&self) -> i64 {
        self.schema.value(OLD).await
    }

    /// An event of the first day, and its delivery with an attempt.
    async fn event(&self) -> (Event, Uuid) {
        let event = event_for("default", "a", "1", self.start);
        let jobs = self.insert(&event).await;
        let log = format!(
            "INSERT INTO webhook.attempts (
                delivery_id, number, started_at, duration, request_headers, truncated, error_kind
            ) VALUES ('{}', 1, now(), 1, '', false, 'timeout')",
            jobs[0]
        );
        self.schema.run(&log).await;
        (event, jobs[0])
    }

    async fn insert(&self, event: &Event) -> Vec<Uuid> {
        let (events, options) = ([event.clone()], InsertOptions::new(OnConflict::Skip));
        let inserted = self.store().insert_events(&events, &options, self.day(0));
        let inserted = inserted.await.expect("an event is stored");
        inserted.jobs.iter().map(|job| job.delivery).collect()
    }

    async fn cancel(&self, delivery: Uuid, day: u32) {
        let ended = self
            .store()
            .cancel_delivery(&Scope::All, delivery, self.day(day));
        assert!(matches!(ended.await, Ok(Changed::Done(()))), "{day}");
    }

    async fn replay(&self, delivery: Uuid, day: u32) -> Uuid {
        let replayed = self
            .store()
            .replay_delivery(&Scope::All, delivery, self.day(day));
        let Ok(Changed::Done(job)) = replayed.await else {
            panic!("{delivery} is replayed");
        };
        job.delivery
    }

    async fn has_event(&self, event: &Event) -> bool {
        let found = self.store().event(&Scope::All, event.id).await;
        found.expect("events are read").is_some()
    }

    async fn delivery(&self, delivery: Uuid) -> Option<Delivery> {
        let found = self.store().delivery(&Scope::All, delivery).await;
        found.expect("deliveries are read")
    }

    async fn attempts(&self, delivery: Uuid) -> i64 {
        let count =
            format!("SELECT count(*) FROM webhook.attempts WHERE delivery_id = '{delivery}'");
        self.schema.value(&count).await
    }
}

#[test]
fn a_day_is_dropped_but_for_what_a_live_delivery_needs() {
    run(async {
        let world = World::new().await;
        let ((waiting, held), (ended, done)) = (world.event().await, world.event().await);
        world.cancel(done, 0).await;
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 0, "one delivery keeps no day");
        assert!(!world.has_event(&ended).await);
        assert_eq!(
            (world.delivery(done).await, world.attempts(done).await),
            (None, 0)
        );
        assert!(world.has_event(&waiting).await);
        assert_eq!(world.attempts(held).await, 1);

        // It is known: neither stored once more, nor delivered.
        assert!(world.insert(&waiting).await.is_empty());
        // And it is attempted, however long it waits.
        world.maintain(80).await;
        let queue = world.store().queue().expect("its own");
        let claimed = queue.claim(ClaimOptions::new(9, DAY), world.day(80)).await;
        let leases = claimed.expect("claims").leases;
        assert_eq!(leases.len(), 1);
        let loaded = world
            .store()
            .load(&leases, world.day(80))
            .await
            .expect("loads");
        let Verdict::Run(work) = &loaded[0].verdict else {
            panic!("{:?}", loaded[0].verdict);
        };
        assert_eq!(work.event.body, waiting.body);

        // From its end on it is kept as long as any.
        world.cancel(held, 80).await;
        for (day, is_kept) in [(109, true), (111, false)] {
            world.maintain(day).await;
            let found = (
                world.has_event(&waiting).await,
                world.delivery(held).await.is_some(),
            );
            assert_eq!(found, (is_kept, is_kept), "{day}");
            assert_eq!(world.attempts(held).await, i64::from(is_kept), "{day}");
        }
    });
}

#[test]
fn what_was_replayed_of_an_old_day_keeps_its_event_and_not_the_day() {
    run(async {
        let world = World::new().await;
        let ((event, first), (other, second)) = (world.event().await, world.event().await);
        for delivery in [first, second] {
            world.cancel(delivery, 0).await;
        }
        // So that the replay has a partition of its own day.
        world.maintain(29).await;
        let replay = world.replay(first, 29).await;
        for (day, is_kept) in [(35, true), (64, true), (66, false)] {
            world.maintain(day).await;
            assert_eq!(world.partitions().await, 0, "{day}");
            assert_eq!(world.has_event(&event).await, is_kept, "{day}");
            assert!(!world.has_event(&other).await, "{day}");
            if day == 35 {
                world.cancel(replay, 35).await;
            }
        }
    });
}

#[test]
fn what_has_ended_since_moves_with_its_event_and_attempts() {
    run(async {
        let world = World::new().await;
        let ((event, late), (_, early)) = (world.event().await, world.event().await);
        world.cancel(early, 0).await;
        world.cancel(late, 20).await;
        for (day, is_kept) in [(31, true), (49, true), (51, false)] {
            world.maintain(day).await;
            assert_eq!(world.partitions().await, 0, "{day}");
            let found = (
                world.has_event(&event).await,
                world.delivery(late).await.is_some(),
            );
            assert_eq!(found, (is_kept, is_kept), "{day}");
            assert_eq!(world.attempts(late).await, i64::from(is_kept), "{day}");
            assert_eq!(world.delivery(early).await, None, "{day}");
        }
    });
}

#[test]
fn a_day_of_which_much_is_needed_stays_whole() {
    run(async {
        let world = World::new().await;
        let events = [
            world.event().await,
            world.event().await,
            world.event().await,
        ];
        let drop = async |limits: &str| -> Option<i32> {
            let drop = format!(
                "SELECT dropped FROM webhook.drop_day(
                    '2023-11-14', to_timestamp(1700000000) + interval '40 days', {limits}
                )"
            );
            world.schema.value(&drop).await
        };
        for limits in ["2, 100000, 1000000", "3, 10, 1000000", "3, 100000, 0"] {
            if limits.ends_with(" 0") {
                // The default partitions are empty, and so have no size.
                let elsewhere = event_for("default", "a", "1", Timestamp::EPOCH + DAY);
                world.insert(&elsewhere).await;
            }
            assert_eq!(drop(limits).await, Some(0), "{limits}");
            assert_eq!(world.partitions().await, 3, "{limits}");
        }
        assert_eq!(drop("3, 100000, 1000000").await, Some(3));
        assert_eq!(world.partitions().await, 0);
        for (event, delivery) in events {
            assert!(world.has_event(&event).await);
            assert_eq!(world.attempts(delivery).await, 1);
        }
    });
}

#[test]
fn a_day_that_is_in_use_is_dropped_another_time() {
    run(async {
        let world = World::new().await;
        let (event, _) = world.event().await;
        let mut reader = world.schema.pool.begin().await.expect("a transaction");
        let read = world
            .schema
            .sql("SELECT count(*) FROM webhook.events_20231114");
        let read = sqlx::query(read).execute(&mut *reader).await;
        read.expect("it reads");
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 3, "in use");
        reader.rollback().await.expect("it ends");
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 0);
        assert!(world.has_event(&event).await);
    });
}

/// In place of the one that looks through a day: the server ends it. It leaves behind how long it might have taken.
const CUT_OFF: &str = "CREATE SEQUENCE webhook.seconds;
    CREATE OR REPLACE FUNCTION webhook.drop_day(
        day timestamptz, before timestamptz, most_rows integer, most_bytes bigint, most_kept bigint,
        OUT dropped integer, OUT moved integer
    ) LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM setval(
            'webhook.seconds', extract(epoch FROM current_setting('statement_timeout')::interval)::bigint
        );
        RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
    END
    $$";

#[test]
fn a_day_that_takes_long_is_dropped_another_time_before_inserts_fail() {
    run(async {
        let world = World::new().await;
        world.schema.run(CUT_OFF).await;
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 3);
        let seconds: i64 = world
            .schema
            .value("SELECT last_value FROM webhook.seconds WHERE is_called")
            .await;
        // An insert may take 25 s.
        assert_eq!(seconds, 15);
    });
}

/// In place of the one that looks through a day: the server ends it for the first.
const FIRST_CUT_OFF: &str = "ALTER FUNCTION webhook.drop_day RENAME TO drop_quick_day;
    CREATE FUNCTION webhook.drop_day(
        day timestamptz, before timestamptz, most_rows integer, most_bytes bigint, most_kept bigint,
        OUT dropped integer, OUT moved integer
    ) LANGUAGE plpgsql AS $$
    BEGIN
        IF day < '2023-11-15 00:00Z' THEN
            RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
        END IF;
        SELECT quick.dropped, quick.moved INTO dropped, moved
        FROM webhook.drop_quick_day(day, before, most_rows, most_bytes, most_kept) AS quick;
    END
    $$";

#[test]
fn a_day_that_takes_long_keeps_no_other() {
    run(async {
        let world = World::new().await;
        let next = OLD.replace("20231114", "20231115");
        assert_eq!(world.schema.value::<i64>(&next).await, 3);
        world.schema.run(FIRST_CUT_OFF).await;
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 3);
        assert_eq!(world.schema.value::<i64>(&next).await, 0);
    });
}

#[test]
fn what_moved_is_erased_with_its_tenant() {
    run(async {
        let world = World::new().await;
        let (event, held) = world.event().await;
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 0);
        let tenant = "default".parse().expect("a tenant");
        let erased = world.store().erase_tenant(&tenant, world.day(40)).await;
        erased.expect("it begins");
        let step = world.store().step_erasure(100, world.day(40)).await;
        step.expect("a step");
        assert!(!world.has_event(&event).await);
        assert_eq!(
            (world.delivery(held).await, world.attempts(held).await),
            (None, 0)
        );
    });
}

#[test]
fn two_processes_that_keep_house_at_once_lose_nothing() {
    run(async {
        let world = World::new().await;
        let (event, held) = world.event().await;
        let other = PgStore::builder()
            .schema(&world.schema.name)
            .without_migrations()
            .open(world.schema.pool.clone())
            .await;
        let other = other.expect("it opens");
        let kept = other.maintain(RETENTION, world.day(40));
        let (kept, ()) = tokio::join!(kept, world.maintain(40));
        kept.expect("keeps house");
        // The one that came second may have done nothing.
        world.maintain(40).await;
        assert_eq!(world.partitions().await, 0);
        assert!(world.has_event(&event).await);
        assert_eq!(world.attempts(held).await, 1);
    });
}

#[test]
fn a_role_that_may_drop_partitions_may_drop_days_when_the_schema_is_migrated() {
    run(async {
        let (name, owner) = (new_name(), pool().await);
        let run = async |text: String| {
            let ran = owner.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
            ran.expect("it runs");
        };
        let builder = || PgStore::builder().schema(&name);
        let scripts = builder().migrations().expect("the name is allowed");
        for script in &scripts[..6] {
            run(script.clone()).await;
        }
        run(format!(
            "CREATE ROLE \"{name} app\"; GRANT USAGE ON SCHEMA {name} TO \"{name} app\";
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO \"{name} app\";
            GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {name} TO \"{name} app\";
            SELECT {name}.make_partitions('2023-11-14', 1)"
        ))
        .await;
        let migrated = builder().open(owner.clone()).await;
        migrated.expect("it migrates");
        let own = owner.connect_options().as_ref().clone();
        let own = own.options([("role", &format!("{name} app"))]);
        let pool = PgPool::connect_with(own).await.expect("it connects");
        let store = builder().without_migrations().open(pool.clone()).await;
        let store = store.expect("the schema fits");
        store.maintain(RETENTION, None).await.expect("keeps house");
        let old = OLD.replace("webhook.", &format!("{name}."));
        let old: i64 = sqlx::query_scalar(AssertSqlSafe(old))
            .fetch_one(&owner)
            .await
            .expect("it is counted");
        assert_eq!(old, 0);
        pool.close().await;
        run(format!(
            "DROP OWNED BY \"{name} app\"; DROP ROLE \"{name} app\""
        ))
        .await;
    });
}
