//! The suite of what hostile receivers send: each attempt ends, is recorded as what it was, reads back as it was
//! recorded, and costs no other endpoint anything.

use super::suite;

/// The checks of what comes back: one list for the wrappers and for a backend's tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __hostile_checks {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! {
            $($args)*
            endless_body_is_cut,
            slow_drip_ends_with_the_deadline,
            silence_ends_with_the_deadline,
            flood_of_interim_answers_ends_with_the_deadline,
            compressed_body_stays_as_it_was_sent,
            head_without_end_is_refused,
            broken_chunks_are_a_broken_body,
            end_or_reset_at_any_stage_is_a_failed_attempt,
            nul_and_broken_utf_8_come_back_as_they_were,
            garbage_is_not_http,
            absurd_retry_after_is_clamped_or_ignored,
        }
    };
}

/// A backend's `#[test]`s for what hostile receivers send, over real sockets. Needs the feature `hyper`, and a
/// [`Harness`](crate::testing::Harness) with a store that is `Clone`.
#[macro_export]
macro_rules! hostile_conformance {
    ($harness:ty) => {
        $crate::__hostile_checks! { [$crate::__conformance_tests] hostile, $harness, }
    };
}

__hostile_checks! { [suite] EngineHarness, }

mod checks {
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::super::receivers::{drip, pour, read_request, receiver, reset, wait_for_the_end};
    use super::super::{EngineHarness, endpoint_for};
    use crate::delivery::{Attempt, Delivery, DeliveryStatus, Outcome};
    use crate::dispatcher::Dispatcher;
    use crate::endpoint::EndpointSettings;
    use crate::event::NewEvent;
    use crate::network::NetworkPolicy;
    use crate::store::{DeliveryFilter, Store};
    use crate::tenant::PageRequest;
    use crate::testing::{ManualClock, fast_forward};
    use crate::transport::TransportErrorKind as Kind;

    /// What is kept of a body.
    const KEPT: usize = 16 * 1024;
    /// More than what two sockets buffer, and far less than what is offered.
    const BUFFERED: usize = 64 << 20;
    /// For answers that are expected to come.
    const PATIENT: Duration = Duration::from_secs(60);
    /// For answers that never end.
    const SHORT: Duration = Duration::from_millis(200);
    /// Deliveries to the healthy endpoint beside each hostile answer.
    const BESIDE: usize = 5;
    const PAGE: PageRequest = PageRequest {
        before: None,
        limit: 200,
    };

    /// A dispatcher with one healthy endpoint.
    struct Arena<H> {
        harness: H,
        dispatcher: Dispatcher,
        clock: ManualClock,
    }

    impl<H: EngineHarness> Arena<H> {
        async fn start(harness: H) -> Self {
            let clock = ManualClock::default();
            let loopback = "127.0.0.0/8".parse().expect("a network");
            let policy = NetworkPolicy::builder().allow_http(true);
            let dispatcher = harness
                .dispatcher()
                .network_policy(policy.allow_networks([loopback]).build())
                .max_response_body(KEPT)
                .request_timeout(PATIENT)
                .clock(clock.clone())
                .seed(1)
                .build();
            let arena = Self {
                dispatcher: dispatcher.expect("a dispatcher").erase(),
                harness,
                clock,
            };
            let well = |stream: &mut TcpStream| {
                read_request(stream);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok")
                    .ok();
            };
            arena.endpoint("healthy", PATIENT, well).await;
            arena
        }

        /// An endpoint whose receiver does as `answer` says on each connection.
        async fn endpoint(
            &self,
            event_type: &str,
            timeout: Duration,
            answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
        ) -> uuid::Uuid {
            let settings = EndpointSettings {
                event_types: vec![event_type.parse().expect("a pattern")],
                // Shorter than a person may set it.
                timeout: Some(timeout),
                ..EndpointSettings::default()
            };
            let mut endpoint = endpoint_for("default", settings);
            endpoint.url = receiver(answer);
            let inserted = self
                .harness
                .store()
                .insert_endpoint(&endpoint, usize::MAX)
                .await;
            inserted.expect("an endpoint is stored");
            endpoint.id
        }

        /// What became of an event whose receiver answers like this, while a healthy one gets others.
        async fn exchange(
            &self,
            timeout: Duration,
            answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
        ) -> (Delivery, Attempt) {
            let endpoint = self.endpoint("hostile", timeout, answer).await;
            let event = |event_type| NewEvent::raw(event_type, "ping").expect("an event");
            let mut events = vec![event("hostile")];
            events.resize_with(1 + BESIDE, || event("healthy"));
            let accepted = self.dispatcher.enqueue_batch(events).await;
            accepted.expect("events are accepted");
            self.pass(Duration::ZERO).await;

            self.assert_the_healthy_are_well().await;
            let delivery = self.deliveries_of(endpoint, Vec::new()).await.remove(0);
            let attempts = self.attempts(&delivery).await;
            assert_eq!(attempts.len(), 1);
            if let Some(failure) = delivery.last_error {
                let found = self.deliveries_of(endpoint, vec![failure.to_string()]);
                assert_eq!(found.await.len(), 1, "{failure}");
            }
            self.retire(endpoint).await;
            (delivery, attempts.into_iter().next().expect("an attempt"))
        }

        async fn failure(
            &self,
            timeout: Duration,
            answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
        ) -> Kind {
            match self.exchange(timeout, answer).await.1.outcome {
                Outcome::Failed(kind) => kind,
                other @ Outcome::Response { .. } => panic!("{other:?}"),
            }
        }

        async fn pass(&self, time: Duration) {
            let passed = fast_forward(&self.dispatcher, &self.clock, time).await;
            passed.expect("the engine goes on");
        }

        /// The next answer is another endpoint's.
        async fn retire(&self, endpoint: uuid::Uuid) {
            let deleted = self.dispatcher.endpoints().delete(endpoint).await;
            deleted.expect("an endpoint is deleted");
        }

        async fn deliveries_of(&self, endpoint: uuid::Uuid, errors: Vec<String>) -> Vec<Delivery> {
            let filter = DeliveryFilter {
                endpoint_id: Some(endpoint),
                error_kinds: errors,
                ..DeliveryFilter::default()
            };
            let page = self.dispatcher.deliveries().list(&filter, PAGE).await;
            page.expect("deliveries are listed").items
        }

        async fn attempts(&self, delivery: &Delivery) -> Vec<Attempt> {
            let attempts = self.dispatcher.deliveries().attempts(delivery.id).await;
            attempts.expect("attempts are read")
        }

        async fn assert_the_healthy_are_well(&self) {
            let filter = DeliveryFilter {
                event_type: Some("healthy".parse().expect("a type")),
                ..DeliveryFilter::default()
            };
            let page = self.dispatcher.deliveries().list(&filter, PAGE).await;
            let healthy = page.expect("deliveries are listed").items;
            assert!(healthy.len() >= BESIDE);
            for delivery in healthy {
                assert_eq!(delivery.status, DeliveryStatus::Succeeded);
                assert_eq!(delivery.attempts, 1);
            }
        }
    }

    /// Asserts that a response was recorded, with this body, and answers what else there is of it.
    fn assert_response(attempt: &Attempt, expected: u16, kept: &[u8], cut: bool) {
        match &attempt.outcome {
            Outcome::Response {
                status,
                body,
                truncated,
                ..
            } => {
                assert_eq!((*status, *truncated), (expected, cut));
                assert!(body == kept, "another body of {} bytes", body.len());
            }
            Outcome::Failed(kind) => panic!("{kind:?}"),
        }
    }

    /// A receiver that reads the request, sends these bytes and closes.
    fn sends(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> impl Fn(&mut TcpStream) + Send + Sync {
        move |stream| {
            read_request(stream);
            stream.write_all(bytes.as_ref()).ok();
        }
    }

    pub(super) async fn endless_body_is_cut<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        let plain = "x".repeat(64 * 1024);
        let chunks = "1\r\nx\r\n".repeat(1_000);
        let answers = [
            ("", plain.clone()),
            ("content-length: 104857600\r\n", plain.clone()),
            ("content-length: 1000000000000000000\r\n", plain),
            ("transfer-encoding: chunked\r\n", chunks),
        ];
        for (header, again) in answers {
            let (ended, mut taken) = mpsc::unbounded_channel();
            let head = format!("HTTP/1.1 200 OK\r\n{header}\r\n");
            let answer = move |stream: &mut TcpStream| {
                read_request(stream);
                ended.send(pour(stream, &head, again.as_bytes())).ok();
            };
            let (delivery, attempt) = arena.exchange(PATIENT, answer).await;
            assert_eq!(delivery.status, DeliveryStatus::Succeeded);
            assert_response(&attempt, 200, &[b'x'; KEPT], true);
            let taken = taken.recv().await.expect("the receiver has ended");
            assert!(taken < BUFFERED, "{taken} bytes were read");
        }
    }

    pub(super) async fn slow_drip_ends_with_the_deadline<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        for head in [
            "HTTP/1.1 200 ",
            "HTTP/1.1 200 OK\r\nx-slow: ",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
        ] {
            let answer = move |stream: &mut TcpStream| {
                read_request(stream);
                drip(stream, head, b"H");
            };
            assert_eq!(arena.failure(SHORT, answer).await, Kind::Timeout, "{head}");
        }
    }

    pub(super) async fn silence_ends_with_the_deadline<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        let unread = arena.failure(SHORT, wait_for_the_end);
        assert_eq!(unread.await, Kind::Timeout);
        let read = arena.failure(SHORT, |stream| {
            read_request(stream);
            wait_for_the_end(stream);
        });
        assert_eq!(read.await, Kind::Timeout);
    }

    pub(super) async fn flood_of_interim_answers_ends_with_the_deadline<H: EngineHarness>(
        harness: H,
    ) {
        let arena = Arena::start(harness).await;
        for interim in ["100 Continue", "102 Processing", "103 Early Hints"] {
            let flood = format!("HTTP/1.1 {interim}\r\nlink: </a>\r\n\r\n").repeat(100);
            let answer = move |stream: &mut TcpStream| {
                read_request(stream);
                drip(stream, "", flood.as_bytes());
            };
            assert_eq!(arena.failure(SHORT, answer).await, Kind::Timeout);
        }
    }

    pub(super) async fn compressed_body_stays_as_it_was_sent<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            // The start of a gzip bomb: what it would inflate to is nobody's concern.
            let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3][..], &[0xec; 500]].concat();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n");
            let answer = sends([head.as_bytes(), &bomb].concat());
            let (_, attempt) = arena.exchange(PATIENT, answer).await;
            assert_response(&attempt, 200, &bomb, false);
        }
    }

    pub(super) async fn head_without_end_is_refused<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        let many = "x: y\r\n".repeat(100_000);
        let answer = sends(format!("HTTP/1.1 200 OK\r\n{many}\r\n"));
        assert_eq!(arena.failure(PATIENT, answer).await, Kind::Protocol);
        for start in ["HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 "] {
            let (ended, mut taken) = mpsc::unbounded_channel();
            let answer = move |stream: &mut TcpStream| {
                read_request(stream);
                ended.send(pour(stream, start, &[b'x'; 64 * 1024])).ok();
            };
            assert_eq!(arena.failure(PATIENT, answer).await, Kind::Protocol);
            let taken = taken.recv().await.expect("the receiver has ended");
            assert!(taken < BUFFERED, "{taken} bytes were read");
        }
    }

    pub(super) async fn broken_chunks_are_a_broken_body<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        for chunk in [
            "zz\r\nhello\r\n",
            "5\r\nhello!!\r\n",
            "ffffffffffffffffff\r\n",
            "-1\r\n",
            "5;\r\n",
            "5\r\nhel",
        ] {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let answer = sends(format!("{head}{chunk}"));
            assert_eq!(arena.failure(PATIENT, answer).await, Kind::Body, "{chunk}");
        }
    }

    pub(super) async fn end_or_reset_at_any_stage_is_a_failed_attempt<H: EngineHarness>(
        harness: H,
    ) {
        let arena = Arena::start(harness).await;
        let stages = [
            ("", Kind::Protocol),
            ("HTTP/1.1 2", Kind::Protocol),
            ("HTTP/1.1 200 OK\r\nx: y", Kind::Protocol),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello",
                Kind::Body,
            ),
        ];
        for (sent, expected) in stages {
            let ends = arena.failure(PATIENT, sends(sent)).await;
            assert_eq!(ends, expected, "{sent}");
            let answer = move |stream: &mut TcpStream| reset(stream, sent);
            let resets = arena.failure(PATIENT, answer).await;
            // A reset may overtake what was sent before.
            assert!([expected, Kind::Protocol].contains(&resets), "{resets:?}");
        }
    }

    pub(super) async fn nul_and_broken_utf_8_come_back_as_they_were<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        let answer = sends(b"HTTP/1.1 503 \xff\xfe\r\nx: caf\xe9\xff\r\n\r\n\0\xff\xfe\0");
        let (delivery, attempt) = arena.exchange(PATIENT, answer).await;
        assert_eq!(delivery.status, DeliveryStatus::Pending);
        assert_response(&attempt, 503, b"\0\xff\xfe\0", false);
        let Outcome::Response { headers, .. } = attempt.outcome else {
            panic!("a response was asserted");
        };
        assert_eq!(headers.get("x"), Some(&b"caf\xe9\xff"[..]));
        for nul in [
            &b"HTTP/1.1 200 \0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx\0: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\xff: a\r\n\r\n",
        ] {
            assert_eq!(arena.failure(PATIENT, sends(nul)).await, Kind::Protocol);
        }
    }

    pub(super) async fn garbage_is_not_http<H: EngineHarness>(harness: H) {
        let arena = Arena::start(harness).await;
        for garbage in [
            &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nx",
        ] {
            let kind = arena.failure(PATIENT, sends(garbage)).await;
            assert_eq!(kind, Kind::Protocol, "{}", garbage.escape_ascii());
        }
    }

    pub(super) async fn absurd_retry_after_is_clamped_or_ignored<H: EngineHarness>(harness: H) {
        let day = Duration::from_secs(86_400);
        let arena = Arena::start(harness).await;
        let mut endpoints = Vec::new();
        for value in [
            &b""[..],
            b"1e300",
            b"-1",
            b"inf",
            b"NaN",
            b"0",
            b"18446744073709551616",
            b"99999999999999999999999999",
            b"Fri, 31 Dec 9999 23:59:59 GMT",
            b"Thu, 01 Jan 1970 00:00:00 GMT",
            b"\xff\xfe",
            b"1, 2",
        ] {
            let head = [b"HTTP/1.1 503 No\r\nretry-after: ", value, b"\r\n\r\n"].concat();
            let endpoint = arena.endpoint("hostile", PATIENT, sends(head)).await;
            endpoints.push((endpoint, value.escape_ascii()));
        }
        let event = NewEvent::raw("hostile", "ping").expect("an event");
        arena.dispatcher.enqueue(event).await.expect("is accepted");
        arena.pass(Duration::ZERO).await;
        let now = arena.dispatcher.now();
        for (endpoint, shown) in &endpoints {
            let delivery = arena.deliveries_of(*endpoint, Vec::new()).await.remove(0);
            let due = delivery.next_retry_at.expect("it is tried again");
            assert!(now < due && due <= now + day, "{shown}: {due}");
        }
        arena.pass(6 * day).await;
        for (endpoint, shown) in &endpoints {
            let delivery = arena.deliveries_of(*endpoint, Vec::new()).await.remove(0);
            assert_eq!(delivery.status, DeliveryStatus::Failed, "{shown}");
            let attempts = arena.attempts(&delivery).await;
            assert_eq!(attempts.len(), 6, "{shown}");
            for attempt in &attempts {
                assert_response(attempt, 503, b"", false);
            }
        }
    }
}
