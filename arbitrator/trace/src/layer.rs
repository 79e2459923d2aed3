//! The bridge from `tracing` to the recorder.
//!
//! It takes every event of debug level and above of our own crates, whatever the log's filter
//! says: the log shows what somebody wanted to see, the recorder keeps what happened.

use tracing::field::{Field as TracingField, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Filtered, LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::encode::{Encoder, Field};
use crate::limits::MAX_SPAN_BYTES;
use crate::recorder::Recorder;

/// Kind of the records that come from log events.
const LOG_KIND: &str = "log";
/// Targets of our own crates begin with it.
const OWN_TARGETS: &str = "tierce";

/// Records events and the spans around them.
#[derive(Debug)]
pub struct RecorderLayer {
    recorder: &'static Recorder,
}

/// A span's fields, encoded once when it is entered into the registry.
struct SpanFields(Vec<u8>);

impl RecorderLayer {
    /// A layer that records into `recorder`, limited to our own crates and to debug and above.
    pub fn filtered<S>(
        recorder: &'static Recorder,
    ) -> Filtered<Self, impl tracing_subscriber::layer::Filter<S>, S>
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let wanted =
            |m: &Metadata<'_>| *m.level() <= Level::DEBUG && m.target().starts_with(OWN_TARGETS);
        Self { recorder }.with_filter(filter_fn(wanted).with_max_level_hint(LevelFilter::DEBUG))
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for RecorderLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let fields = encode_span(span.name(), |v| attributes.record(v));
        span.extensions_mut().replace(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let more = encode_span(span.name(), |v| values.record(v));
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
            && fields.len() + more.len() <= MAX_SPAN_BYTES
        {
            fields.extend_from_slice(&more);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        self.recorder.write(LOG_KIND, |encoder| {
            let metadata = event.metadata();
            encoder.field("level", metadata.level().as_str().into());
            encoder.field("target", metadata.target().into());
            event.record(&mut Visitor { encoder, scope: "" });
            let mut inmost = true;
            for span in ctx.event_scope(event).into_iter().flatten() {
                if inmost {
                    encoder.field("span", span.name().into());
                    inmost = false;
                }
                if let Some(SpanFields(fields)) = span.extensions().get() {
                    encoder.encoded(fields);
                }
            }
        });
    }
}

fn encode_span(name: &str, record: impl FnOnce(&mut dyn Visit)) -> Vec<u8> {
    let mut buffer = [0; MAX_SPAN_BYTES];
    let mut encoder = Encoder::fields_only(&mut buffer);
    record(&mut Visitor { encoder: &mut encoder, scope: name });
    let (used, _) = encoder.finish();
    buffer[..used].to_vec()
}

struct Visitor<'e, 'b> {
    encoder: &'e mut Encoder<'b>,
    scope: &'e str,
}

impl Visitor<'_, '_> {
    fn put(&mut self, field: &TracingField, value: Field<'_>) {
        self.encoder.named(self.scope, field.name(), value);
    }
}

impl Visit for Visitor<'_, '_> {
    fn record_f64(&mut self, field: &TracingField, value: f64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &TracingField, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &TracingField, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &TracingField, value: bool) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &TracingField, value: &str) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &TracingField, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Field::Display(&value));
    }
    fn record_debug(&mut self, field: &TracingField, value: &dyn std::fmt::Debug) {
        self.put(field, Field::Debug(&value));
    }
}
