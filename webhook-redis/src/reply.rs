//! Reads what a server answers. The answers of all scripts begin with the same head.

use bytes::Bytes;
use webhook_core::Timestamp;

/// A value in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Int(i64),
    Bytes(Bytes),
    Array(Vec<Reply>),
    /// Nothing, or something that no script answers.
    Other,
}

/// A reply that no script of ours makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply has an unexpected form")]
pub(crate) struct UnexpectedReply;

/// What a script answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Since when, by its server's clock, the shard remembers; another one after it lost everything.
    pub(crate) generation: i64,
    /// The time with which the script worked.
    pub(crate) now: Timestamp,
    /// When there may be something to claim; not after `now` if at once.
    pub(crate) next_due: Option<Timestamp>,
    /// What this script answers besides.
    pub(crate) result: Vec<Reply>,
}

impl Reply {
    pub(crate) fn int(&self) -> Result<i64, UnexpectedReply> {
        match self {
            Self::Int(int) => Ok(*int),
            Self::Bytes(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(UnexpectedReply),
            Self::Array(_) | Self::Other => Err(UnexpectedReply),
        }
    }

    pub(crate) fn bytes(&self) -> Result<&Bytes, UnexpectedReply> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(UnexpectedReply),
        }
    }

    pub(crate) fn array(self) -> Result<Vec<Self>, UnexpectedReply> {
        match self {
            Self::Array(array) => Ok(array),
            _ => Err(UnexpectedReply),
        }
    }

    /// A time; `None` for -1.
    pub(crate) fn time(&self) -> Result<Option<Timestamp>, UnexpectedReply> {
        let micros = self.int()?;
        Ok((micros >= 0).then_some(Timestamp::from_micros(micros)))
    }
}

impl TryFrom<Reply> for Answer {
    type Error = UnexpectedReply;

    fn try_from(reply: Reply) -> Result<Self, UnexpectedReply> {
        let parts: [Reply; 4] = reply.array()?.try_into().map_err(|_| UnexpectedReply)?;
        let [generation, now, next_due, result] = parts;
        Ok(Self {
            generation: generation.int()?,
            now: now.time()?.ok_or(UnexpectedReply)?,
            next_due: next_due.time()?,
            result: result.array()?,
        })
    }
}
