//! The network in a test's hands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};

use crate::transport::{Transport, TransportError, TransportErrorKind};

/// A transport that sends nothing, keeps what it was given, and answers from a script; then always 200.
///
/// Clones are the same transport.
#[derive(Clone, Debug, Default)]
pub struct ScriptedTransport(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Reply>,
    sent: Vec<SentRequest>,
}

/// One answer of a [`ScriptedTransport`]. A number is a response with that status; a
/// [`TransportErrorKind`] is that error.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This response.
    Response(Response<Bytes>),
    /// No response.
    Error(TransportErrorKind),
    /// The transport panics.
    Panic,
}

/// A request that would have been sent.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// Where to.
    pub uri: Uri,
    /// Its headers, ours and the endpoint's.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl ScriptedTransport {
    /// Answers as `script` says, in order, and 200 after its end.
    pub fn new<R: Into<Reply>>(script: impl IntoIterator<Item = R>) -> Self {
        let script = script.into_iter().map(Into::into).collect();
        Self(Arc::new(Mutex::new(State {
            script,
            sent: Vec::new(),
        })))
    }

    /// Adds an answer to the script's end.
    pub fn push(&self, reply: impl Into<Reply>) {
        self.state().script.push_back(reply.into());
    }

    /// What was sent so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<SentRequest> {
        self.state().sent.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for ScriptedTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let (parts, body) = request.into_parts();
        let reply = {
            let mut state = self.state();
            state.sent.push(SentRequest {
                uri: parts.uri,
                headers: parts.headers,
                body,
            });
            state.script.pop_front()
        };
        match reply {
            None => Ok(Response::new(Bytes::new())),
            Some(Reply::Response(response)) => Ok(response),
            Some(Reply::Error(kind)) => Err(TransportError::new(kind)),
            Some(Reply::Panic) => panic!("the script says so"),
        }
    }
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::Response(response)
    }
}

impl From<Response<Bytes>> for Reply {
    fn from(response: Response<Bytes>) -> Self {
        Self::Response(response)
    }
}

impl From<TransportErrorKind> for Reply {
    fn from(kind: TransportErrorKind) -> Self {
        Self::Error(kind)
    }
}
