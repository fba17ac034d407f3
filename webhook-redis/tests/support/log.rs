//! What a user would read.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;

/// What is logged on this thread while this is there.
pub(crate) struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        Self {
            written,
            _guard: tracing::subscriber::set_default(subscriber.finish()),
        }
    }

    /// Whether a line warns of this.
    pub(crate) fn warns_of(&self, what: &str) -> bool {
        let written = self.written.0.lock().expect("nobody panicked");
        let written = String::from_utf8_lossy(&written);
        let mut lines = written.lines();
        lines.any(|line| line.contains("WARN") && line.contains(what))
    }
}

impl io::Write for Written {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
