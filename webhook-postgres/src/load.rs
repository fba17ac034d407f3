//! Loads what the attempts of claimed deliveries need.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::backend::Opened;
use webhook_core::{
    EndReason, Endpoint, Error, Event, EventType, Health, Lease, Loaded, Now, Result, Tenant,
    Timestamp, Verdict, Work,
};

use crate::column::{At, at};
use crate::error::failed;
use crate::health::health;
use crate::store::Shared;

/// A claim's row, before its endpoint is there.
enum Found {
    /// Someone else owns it.
    Lost,
    Early(Duration),
    Held(Duration),
    Behind(Uuid),
    Ended,
    /// The endpoint or the event is gone, or cannot be read: no attempt will ever be possible.
    Dead(EndReason),
    Live(Live),
}

struct Live {
    attempts: u32,
    excused: u32,
    first_due: Timestamp,
    loaded_at: Timestamp,
    event: Arc<Event>,
    endpoint: (Uuid, i64),
    health: Health,
}

/// Whether an endpoint's secrets could be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Open,
    Sealed,
}

impl Shared {
    pub(crate) async fn load(&self, leases: &[Lease], now: Now) -> Result<Vec<Loaded>> {
        let found = self.find(leases, now).await.map_err(failed("load"))?;
        let wanted = found.iter().filter_map(|one| match one {
            Found::Live(live) => Some(live.endpoint),
            _ => None,
        });
        let endpoints = self.current_endpoints(wanted.collect()).await?;
        let mut dead: HashMap<EndReason, Vec<Lease>> = HashMap::new();
        let mut loaded = Vec::with_capacity(leases.len());
        for (lease, found) in leases.iter().zip(found) {
            let verdict = match found {
                Found::Lost => continue,
                Found::Early(by) => Verdict::Early(by),
                Found::Held(by) => Verdict::Held(by),
                Found::Behind(head) => Verdict::Behind(head),
                Found::Ended => Verdict::Ended,
                Found::Dead(reason) => Verdict::Dead(reason),
                Found::Live(live) => match endpoints.get(&live.endpoint.0) {
                    Some((endpoint, Secrets::Open)) => Verdict::Run(live.with(endpoint)),
                    Some((endpoint, Secrets::Sealed)) => Verdict::Sealed(live.with(endpoint)),
                    None => Verdict::Dead(EndReason::Corrupt),
                },
            };
            if let Verdict::Dead(reason) = verdict {
                dead.entry(reason).or_default().push(*lease);
            }
            loaded.push(Loaded {
                lease: *lease,
                verdict,
            });
        }
        for (reason, leases) in dead {
            self.quarantine(&leases, reason, now)
                .await
                .map_err(failed("load"))?;
        }
        Ok(loaded)
    }

    async fn find(&self, leases: &[Lease], now: Now) -> sqlx::Result<Vec<Found>> {
        let query = self.sql.load.query().bind(at(now));
        let query = query
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.delivery)
                    .collect::<Vec<_>>(),
            )
            .bind(leases.iter().map(|lease| lease.fence).collect::<Vec<_>>())
            .bind(
                leases
                    .iter()
                    .map(|lease| At(lease.until))
                    .collect::<Vec<_>>(),
            );
        let rows = self.rows(query).await?;
        let found = rows
            .iter()
            .zip(leases)
            .map(|(row, lease)| found(row, lease));
        found.collect()
    }

    /// Endpoints in their current versions, by id: those that are not known yet are read. What is sealed is read
    /// each time, as its key may be back.
    async fn current_endpoints(
        &self,
        wanted: Vec<(Uuid, i64)>,
    ) -> Result<HashMap<Uuid, (Arc<Endpoint>, Secrets)>> {
        let mut current = HashMap::with_capacity(wanted.len());
        let mut missing = Vec::new();
        {
            let known = self.known_endpoints();
            for (id, version) in wanted {
                match known
                    .get(&id)
                    .filter(|endpoint| endpoint.version >= version)
                {
                    Some(endpoint) => {
                        current.insert(id, (Arc::clone(endpoint), Secrets::Open));
                    }
                    None => missing.push(id),
                }
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            for read in self.readable_endpoints(&missing).await? {
                let (endpoint, secrets) = match read {
                    Opened::Whole(endpoint) => (Arc::new(endpoint), Secrets::Open),
                    Opened::Sealed(endpoint, why) => {
                        let why = std::error::Error::source(&why);
                        tracing::error!(endpoint = %endpoint.id, error = why, "an endpoint's secrets cannot be opened; its deliveries wait for the key");
                        (Arc::new(endpoint), Secrets::Sealed)
                    }
                };
                if secrets == Secrets::Open {
                    self.remember(&endpoint);
                }
                current.insert(endpoint.id, (endpoint, secrets));
            }
        }
        Ok(current)
    }

    /// Ends deliveries that no attempt can help: they would come back for ever.
    pub(crate) async fn quarantine(
        &self,
        leases: &[Lease],
        reason: EndReason,
        now: Now,
    ) -> sqlx::Result<()> {
        let status = match reason {
            EndReason::EndpointDeleted => "cancelled",
            _ => "failed",
        };
        // In this order, as all who lock several do.
        let mut leases = leases.to_vec();
        leases.sort_unstable_by_key(|lease| lease.delivery);
        let deliveries: Vec<Uuid> = leases.iter().map(|lease| lease.delivery).collect();
        let fences: Vec<i64> = leases.iter().map(|lease| lease.fence).collect();
        tracing::error!(
            ?deliveries,
            reason = reason.as_str(),
            "deliveries that cannot be attempted"
        );
        let query = self.sql.quarantine.query().bind(at(now)).bind(status);
        let query = query.bind(reason.as_str()).bind(deliveries).bind(fences);
        self.execute(query).await.map(drop)
    }
}

impl Live {
    fn with(self, endpoint: &Arc<Endpoint>) -> Work {
        Work {
            attempts: self.attempts,
            excused: self.excused,
            first_due: self.first_due,
            loaded_at: self.loaded_at,
            event: self.event,
            endpoint: Arc::clone(endpoint),
            health: self.health,
        }
    }
}

fn found(row: &PgRow, lease: &Lease) -> sqlx::Result<Found> {
    let Some(fence) = row.try_get::<Option<i64>, _>("fence")? else {
        return Ok(Found::Ended);
    };
    if fence > lease.fence {
        return Ok(Found::Lost);
    }
    if row.try_get("is_early")? {
        if let Some(head) = row.try_get("behind")? {
            return Ok(Found::Behind(head));
        }
        let early_by: i64 = row.try_get("early_by")?;
        let held_by: Option<i64> = row.try_get("held_by")?;
        return Ok(match held_by {
            Some(by) if by > 0 && early_by == 0 => {
                Found::Held(Duration::from_micros(by.unsigned_abs()))
            }
            _ => Found::Early(Duration::from_micros(early_by.unsigned_abs())),
        });
    }
    let Some(version) = row.try_get("endpoint_version")? else {
        return Ok(Found::Dead(EndReason::EndpointDeleted));
    };
    let Ok(event) = event(row, "event_id") else {
        return Ok(Found::Dead(EndReason::Corrupt));
    };
    let At(first_due) = row.try_get("first_due")?;
    let At(loaded_at) = row.try_get("now")?;
    Ok(Found::Live(Live {
        attempts: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(0),
        excused: u32::try_from(row.try_get::<i32, _>("excused")?).unwrap_or(0),
        first_due,
        loaded_at,
        event: Arc::new(event),
        endpoint: (row.try_get("endpoint_id")?, version),
        health: health(row)?,
    }))
}

/// An event from its columns.
pub(crate) fn event(row: &PgRow, id: &str) -> Result<Event, sqlx::Error> {
    let invalid = |error: webhook_core::BoxError| sqlx::Error::Decode(error);
    let At(created_at) = row.try_get("created_at")?;
    let deliver_at: Option<At> = row.try_get("deliver_at")?;
    let traceparent: Option<&str> = row.try_get("traceparent")?;
    let tenant = Tenant::new(row.try_get("tenant")?).map_err(|error| invalid(error.into()))?;
    let event_type = EventType::new(row.try_get("event_type")?);
    Ok(Event {
        id: row.try_get(id)?,
        tenant,
        event_type: event_type.map_err(|error| invalid(error.into()))?,
        body: row.try_get::<Vec<u8>, _>("body")?.into(),
        created_at,
        deliver_at: deliver_at.map(|At(time)| time),
        idempotency: None,
        // A trace is nothing that a delivery fails for.
        traceparent: traceparent.and_then(|it| it.parse().ok()),
    })
}

/// For the errors of those who read rows one by one.
pub(crate) fn corrupt(operation: &'static str) -> impl Fn(Error) -> Error {
    move |error| Error::new(error.kind(), operation).with_source(error)
}
