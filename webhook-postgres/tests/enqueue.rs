//! `webhook.enqueue()`: as strict as the library, and one with it where both have the same key.

mod common;

use std::borrow::Cow;
use std::collections::HashSet;

use common::{Schema, pool};
use futures_util::future::join_all;
use uuid::Uuid;
use webhook_core::testing::{ScriptedTransport, endpoint_for, run};
use webhook_core::{
    CatalogueEntry, Dispatcher, EndpointSettings, NewEvent, Scope, Store, Tenant, Timestamp,
    TraceParent,
};
use webhook_postgres::PgStore;

/// Whether the function accepts these arguments; `None` is NULL.
async fn is_accepted(schema: &Schema, arguments: [Option<&str>; 5]) -> bool {
    let [event_type, data, tenant, key, deliver_at] = arguments;
    let call = schema.sql("SELECT webhook.enqueue($1, $2, $3, $4, $5::timestamptz)");
    let call = sqlx::query(call).bind(event_type).bind(data);
    let call = call.bind(tenant).bind(key).bind(deliver_at);
    match call.execute(&schema.pool).await {
        Ok(_) => true,
        Err(sqlx::Error::Database(refused)) => {
            let code = refused.code().unwrap_or_default().into_owned();
            assert!(["22023", "22P02"].contains(&&*code), "{refused}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn tenants_are_judged_as_by_the_library() {
    run(async {
        let schema = Schema::new().await;
        // All of the first plane that anybody might take for white space, and what is beside it.
        let chars = (1..0x2100).chain(0x2ff0..0x3010).chain([0xfeff, 0x1_f980]);
        let chars: Vec<char> = chars.filter_map(char::from_u32).collect();
        let names: Vec<String> = chars.iter().map(|c| format!("a{c}b")).collect();
        let judge = schema.sql(
            "CREATE FUNCTION webhook.judges(name text) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM webhook.enqueue('a', '1', name);
                RETURN true;
            EXCEPTION WHEN invalid_parameter_value THEN
                RETURN false;
            END $$",
        );
        sqlx::query(judge)
            .execute(&schema.pool)
            .await
            .expect("made");
        let verdicts = schema.sql(
            "SELECT array_agg(webhook.judges(name) ORDER BY place)
            FROM unnest($1::text[]) WITH ORDINALITY AS input (name, place)",
        );
        let verdicts: Vec<bool> = sqlx::query_scalar(verdicts)
            .bind(&names)
            .fetch_one(&schema.pool)
            .await
            .expect("judged");
        assert_eq!(verdicts.len(), names.len());
        for (name, verdict) in names.iter().zip(verdicts) {
            assert_eq!(verdict, Tenant::new(name).is_ok(), "{name:?}");
        }
        for (name, expected) in [
            ("x".repeat(128), true),
            ("x".repeat(129), false),
            ("é".repeat(64), true),
            ("é".repeat(65), false),
            (String::new(), false),
        ] {
            let arguments = [Some("a"), Some("1"), Some(&*name), None, None];
            assert_eq!(is_accepted(&schema, arguments).await, expected, "{name}");
            assert_eq!(Tenant::new(&name).is_ok(), expected);
        }
    });
}

#[test]
fn data_is_nested_as_deep_as_in_the_library() {
    run(async {
        let schema = Schema::new().await;
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects =
            |depth: usize| format!("{}1{}", r#"{"[\"[":"#.repeat(depth), "}".repeat(depth));
        for data in [
            nested(128),
            nested(129),
            objects(128),
            objects(129),
            format!(
                r#"["{}\\", "\"{}", {{}}]"#,
                "[{".repeat(500),
                "]".repeat(500)
            ),
            format!("[{}{}]", "[{}],".repeat(500), nested(127)),
            format!("[{}{}]", "[{}],".repeat(500), nested(128)),
            format!("{}{}", "[ \n".repeat(64), r#"{ "a" : 1 }"#) + &"]\t".repeat(64),
            nested(100_000),
        ] {
            let expected = NewEvent::data("a", data.clone()).is_ok();
            let arguments = [Some("a"), Some(&*data), Some("default"), None, None];
            let shown: String = data.chars().take(100).collect();
            if data.len() < 100_000 {
                assert_eq!(is_accepted(&schema, arguments).await, expected, "{shown}");
            } else {
                // Too deep for the server itself.
                let call = schema.sql("SELECT webhook.enqueue('a', $1)");
                let refused = sqlx::query(call).bind(&data).execute(&schema.pool).await;
                assert!(!expected && refused.is_err());
            }
        }
    });
}

#[test]
fn a_trace_is_read_as_by_the_library_and_what_is_none_is_ignored() {
    const IDS: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let zeros = |digits: usize| "0".repeat(digits);
    let mut texts = vec![
        String::new(),
        IDS.to_owned(),
        format!("00-{IDS}").to_uppercase(),
        format!("00-{}-00f067aa0ba902b7-01", zeros(32)),
        format!("00-{}1-00f067aa0ba902b7-01", zeros(31)),
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", zeros(16)),
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}1-01", zeros(15)),
    ];
    for version in ["00", "01", "fe", "ff", "0", "0g"] {
        for end in ["", "-", "-more", "0", "\n", " "] {
            texts.push(format!("{version}-{IDS}{end}"));
        }
        texts.push(format!(" {version}-{IDS}"));
    }
    run(async {
        let schema = Schema::new().await;
        for text in texts.iter().map(Some).chain([None]) {
            let call = schema.sql("SELECT webhook.enqueue('a', '1', traceparent => $1)");
            let call = sqlx::query_scalar::<_, Uuid>(call).bind(text);
            let id = call.fetch_one(&schema.pool).await.expect("accepted");
            let stored = schema.sql("SELECT traceparent FROM webhook.events WHERE id = $1");
            let stored = sqlx::query_scalar::<_, Option<String>>(stored).bind(id);
            let stored = stored.fetch_one(&schema.pool).await.expect("it is there");
            let read = text.and_then(|text| text.parse::<TraceParent>().ok());
            assert_eq!(stored, read.map(|it| it.to_string()), "{text:?}");
        }
    });
}

#[test]
fn only_some_arguments_may_be_null() {
    run(async {
        let schema = Schema::new().await;
        let all = [
            Some("a"),
            Some("1"),
            Some("default"),
            Some("k"),
            Some("2030-01-01T00:00:00Z"),
        ];
        for (place, may_be_null) in [false, false, false, true, true].into_iter().enumerate() {
            let mut arguments = all;
            arguments[place] = None;
            // Another key each time: its event is another.
            let key = format!("k{place}");
            arguments[3] = arguments[3].map(|_| &*key);
            assert_eq!(
                is_accepted(&schema, arguments).await,
                may_be_null,
                "{place}"
            );
        }
    });
}

#[test]
fn a_time_of_delivery_is_one_that_the_library_knows() {
    run(async {
        let schema = Schema::new().await;
        for (time, expected) in [
            ("infinity", false),
            ("-infinity", false),
            ("1969-12-31 23:59:59.999999+00", false),
            ("1970-01-01 00:00:00+00", true),
            ("2030-01-01 00:00:00.000001+00", true),
            ("9999-12-30 22:00:00.999999+00", true),
            ("9999-12-30 22:00:01+00", false),
            ("294276-12-31 00:00:00+00", false),
        ] {
            let arguments = [Some("a"), Some("1"), Some("default"), None, Some(time)];
            assert_eq!(is_accepted(&schema, arguments).await, expected, "{time}");
        }
    });
}

#[test]
fn what_is_to_be_delivered_later_waits() {
    run(async {
        let schema = Schema::new().await;
        with_endpoint(&schema.store).await;
        let call =
            "SELECT webhook.enqueue('a', '1', 'default', 'k', '2099-01-01 00:00:00.000001+00')";
        let id: Uuid = schema.value(call).await;
        let due = "SELECT (extract(epoch FROM due_at) * 1000000)::bigint FROM webhook.deliveries
            WHERE NOT ready AND due_at = first_due";
        let due = Timestamp::from_micros(schema.value(due).await);
        assert_eq!(due, "2099-01-01T00:00:00.000001Z".parse().expect("a time"));
        let event = schema.store.event(&Scope::All, id).await.expect("reads");
        assert_eq!(event.expect("is there").deliver_at, Some(due));
        // The same event, by the library.
        let same = keyed("1").deliver_at(due);
        let dispatcher = dispatcher(&schema.store);
        assert_eq!(dispatcher.enqueue(same).await.expect("accepted"), id);
        dispatcher
            .enqueue(keyed("1"))
            .await
            .expect_err("another time is another event");
    });
}

#[test]
fn a_key_is_one_for_all_who_race() {
    run(async {
        let schema = Schema::new().await;
        with_endpoint(&schema.store).await;
        let first = race(&schema).await;
        assert_eq!(race(&schema).await, first, "the key stands for it");
        // A day later it stands for nothing, and again one of all wins.
        let age =
            "UPDATE webhook.idempotency_keys SET expires_at = expires_at - interval '25 hours'";
        schema.run(age).await;
        let second = race(&schema).await;
        assert_ne!(second, first);
        assert_eq!(race(&schema).await, second);
        let deliveries: i64 = schema
            .value("SELECT count(*) FROM webhook.deliveries")
            .await;
        assert_eq!(deliveries, 2, "one for each event");
    });
}

/// By a server whose clock is ahead: all that comes is as old as what goes.
#[test]
fn what_comes_after_an_erasure_stays_with_its_key() {
    run(async {
        let schema = Schema::new().await;
        let first = race(&schema).await;
        let ahead = Timestamp::from_seconds(4_000_000_000);
        let tenant = Tenant::new("default").expect("valid");
        let erased = schema.store.erase_tenant(&tenant, Some(ahead)).await;
        erased.expect("an erasure is stored");
        with_endpoint(&schema.store).await;
        let second = race(&schema).await;
        assert_ne!(second, first);
        assert_eq!(race(&schema).await, second, "the key stands for it");
        let step = async || schema.store.step_erasure(200, Some(ahead)).await;
        while step().await.expect("a step is taken").erased > 0 {}
        assert_eq!(race(&schema).await, second);
        let events: Vec<Uuid> = schema
            .value("SELECT array_agg(event_id) FROM webhook.deliveries")
            .await;
        assert_eq!(events, [second]);
    });
}

/// Enqueues one event with one key at once: by the library in two processes, and by the function. Answers what
/// the key stands for.
async fn race(schema: &Schema) -> Uuid {
    let mut racers = Vec::new();
    for _ in 0..2 {
        let builder = PgStore::builder().schema(&schema.name);
        let store = builder.open(pool().await).await.expect("it opens");
        let dispatcher = dispatcher(&store);
        for _ in 0..4 {
            let dispatcher = dispatcher.clone();
            racers.push(tokio::spawn(async move {
                // Each in an insert of its own.
                let accepted = dispatcher.enqueue_batch(vec![keyed("1")]).await;
                accepted.expect("accepted")[0]
            }));
        }
    }
    for _ in 0..6 {
        let (pool, call) = (
            schema.pool.clone(),
            schema.sql("SELECT webhook.enqueue('a', '1', idempotency_key => 'k')"),
        );
        racers.push(tokio::spawn(async move {
            let id = sqlx::query_scalar(call).fetch_one(&pool).await;
            id.expect("accepted")
        }));
    }
    let ids = join_all(racers).await.into_iter();
    let ids: HashSet<Uuid> = ids.map(|id| id.expect("no panic")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.into_iter().next().expect("one")
}

fn keyed(data: &'static str) -> NewEvent {
    let event = NewEvent::data("a", data).and_then(|event| event.idempotency_key("k"));
    event.expect("valid")
}

async fn with_endpoint(store: &PgStore) {
    let endpoint = endpoint_for("default", EndpointSettings::default());
    store
        .insert_endpoint(&endpoint, usize::MAX)
        .await
        .expect("stored");
}

fn dispatcher(store: &PgStore) -> Dispatcher<PgStore> {
    Dispatcher::builder(store.clone())
        .transport(ScriptedTransport::default())
        .build()
        .expect("it builds")
}

#[test]
fn a_type_that_has_a_schema_is_left_to_the_library() {
    run(async {
        let schema = Schema::new().await;
        let put = async |id, name: &str, text: Option<&str>| {
            let entry = CatalogueEntry {
                id: Uuid::from_u128(id),
                name: name.parse().expect("a name"),
                description: String::new(),
                schema: text.map(Into::into),
                example: None,
                created_at: Timestamp::from_seconds(0),
                updated_at: Timestamp::from_seconds(0),
            };
            schema.store.put_event_type(&entry).await.expect("stored");
        };
        put(1, "checked", Some("{}")).await;
        put(2, "free", None).await;
        let enqueue = async |event_type| {
            let call = schema.sql("SELECT webhook.enqueue($1, '1')");
            let call = sqlx::query(call).bind(event_type);
            match call.execute(&schema.pool).await {
                Err(sqlx::Error::Database(refused)) => refused.code().map(Cow::into_owned),
                answer => answer.map(|_| None).expect("an answer"),
            }
        };
        for free in ["free", "unknown", "CHECKED", "checked.too"] {
            assert_eq!(enqueue(free).await, None, "{free}");
        }
        assert_eq!(enqueue("checked").await.as_deref(), Some("0A000"));
        put(3, "checked", None).await;
        assert_eq!(enqueue("checked").await, None);
    });
}
