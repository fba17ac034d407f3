//! `timestamptz` without sqlx's time features. Those would change how a host's own queries infer types.

use std::time::Duration;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use uuid::Uuid;
use webhook_core::{Now, Scope, Timestamp};

const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);
/// 2000-01-01, from which Postgres counts, in µs since 1970.
const EPOCH: i64 = 946_684_800_000_000;
/// The longest time that is added to another in SQL: what lies beyond is no different.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A `timestamptz`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At(pub(crate) Timestamp);

pub(crate) fn at(now: Now) -> Option<At> {
    now.map(At)
}

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let since_epoch = self.0.as_micros().saturating_sub(EPOCH);
        <i64 as Encode<Postgres>>::encode(since_epoch, buf)
    }
}

impl Decode<'_, Postgres> for At {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a timestamptz in text format".into());
        }
        let since_epoch = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self(Timestamp::from_micros(
            since_epoch.saturating_add(EPOCH),
        )))
    }
}

/// A time as SQL adds it to another.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
}

/// A count as SQL takes it.
pub(crate) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The tenant that a scope is narrowed to.
pub(crate) fn tenant(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::All => None,
        Scope::Tenant(tenant) => Some(tenant.as_str()),
    }
}

/// The first six bytes of the ids of deliveries that are made at this time.
pub(crate) fn id_prefix(made_at: Timestamp) -> [u8; 6] {
    let millis = u64::try_from(made_at.as_micros() / 1_000).unwrap_or(0);
    let [_, _, prefix @ ..] = millis.to_be_bytes();
    prefix
}

/// The first and the last id that a delivery made at this time can have.
pub(crate) fn ids_made_at(made_at: Timestamp) -> (Uuid, Uuid) {
    let bound = |fill: u8| {
        let mut bytes = [fill; 16];
        bytes[..6].copy_from_slice(&id_prefix(made_at));
        Uuid::from_bytes(bytes)
    };
    (bound(0), bound(0xff))
}
