//! [`TraceParent`] ties a delivery to the trace in which its event was enqueued. [`Propagation`] ties the engine's spans to it.

use std::fmt;
use std::str::FromStr;

/// The place of a request in a distributed trace, as in the header `traceparent` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/), version `00`.
///
/// ```
/// use webhook_core::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = text.parse()?;
/// assert_eq!(parent.to_string(), text);
/// # Ok::<(), webhook_core::InvalidTraceParent>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    parent: u64,
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case and not all zero"
)]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The header's name.
    pub const HEADER: &str = "traceparent";

    /// From the ids of a trace and of a span in it, and the flags, of which the lowest bit says that it is sampled.
    ///
    /// # Errors
    /// When one of the ids is all zero, as an invalid one is.
    pub fn new(
        trace_id: [u8; 16],
        span_id: [u8; 8],
        flags: u8,
    ) -> Result<Self, InvalidTraceParent> {
        let parent = u64::from_be_bytes(span_id);
        if trace_id == [0; 16] || parent == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(Self {
            trace: trace_id,
            parent,
            flags,
        })
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }

    /// The span of which others are children.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.parent.to_be_bytes()
    }

    /// The flags, of which the lowest bit says that the trace is sampled.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }
}

/// Ties the engine's spans to the traces of a host's tracer; [`Builder::propagation`](crate::Builder::propagation)
/// attaches it.
///
/// The engine begins [`tracing`](https://docs.rs/tracing) spans and knows no tracer. A `Propagation` tells the host's tracer in
/// which trace a span begins, and asks it for the span's place. With it, an event is stored with the place of its
/// `webhook.enqueue` span, each attempt is a child of that span, and the receiver gets the place of the attempt. Without it, an
/// event's [`traceparent`](crate::NewEvent::traceparent) is passed on unchanged.
///
/// With `tracing-opentelemetry`, both methods use the current context of `opentelemetry`; `docs/tracing.md` shows them.
///
/// The engine calls it once or twice for each event and attempt, so it must not block.
pub trait Propagation: Send + Sync {
    /// Calls `begin` once, before it returns. The span that begins there must be a child of `parent`, whatever the current span
    /// is.
    fn begin_in(&self, parent: TraceParent, begin: &mut dyn FnMut());

    /// The place of the current span in its trace; `None` if the tracer does not know the span.
    fn current(&self) -> Option<TraceParent>;
}

/// Later versions begin like version `00`, and may have more text after it. Only the known part is read.
impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits);
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let part = part.filter(|part| part.bytes().all(is_digit));
            part.and_then(|part| u128::from_str_radix(part, 16).ok())
                .ok_or(InvalidTraceParent)
        };
        let (version, trace, parent, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let has_more = parts.next().is_some();
        let is_known = version != 0xff && (version != 0 || !has_more);
        match (u64::try_from(parent), u8::try_from(flags)) {
            (Ok(parent), Ok(flags)) if is_known && trace != 0 && parent != 0 => Ok(Self {
                trace: trace.to_be_bytes(),
                parent,
                flags,
            }),
            _ => Err(InvalidTraceParent),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = u128::from_be_bytes(self.trace);
        let Self { parent, flags, .. } = self;
        write!(f, "00-{trace:032x}-{parent:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(good.parse::<TraceParent>().unwrap().to_string(), good);
        for bad in [
            String::new(),
            TRACE.to_owned(),
            good.to_uppercase(),
            format!("{good}-01"),
            format!(" {good}"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b-01"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-+0f067aa0ba902b7-01"),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("01-{TRACE}-00f067aa0ba902b7-01-more");
        let parent: TraceParent = later.parse().unwrap();
        assert_eq!(
            parent.to_string(),
            format!("00-{TRACE}-00f067aa0ba902b7-01")
        );
    }

    #[test]
    fn its_parts_make_it_up_and_none_is_made_of_invalid_ones() {
        let parent: TraceParent = format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap();
        let (trace, span) = (parent.trace_id(), parent.span_id());
        assert_eq!(span, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(TraceParent::new(trace, span, parent.flags()), Ok(parent));
        assert_eq!(TraceParent::new([0; 16], span, 1), Err(InvalidTraceParent));
        assert_eq!(TraceParent::new(trace, [0; 8], 1), Err(InvalidTraceParent));
    }
}
