//! Which requests are traced where nobody has decided it for us, by `OTEL_TRACES_SAMPLER=parentbased_traceidratio`.
//!
//! The SDK decides that too, but only about spans that have been made, and making one that is thrown away costs a request more
//! than all else that is measured about it. So its own sampler is asked before, and the SDK is told to take what is left. A
//! request whose caller sends a `traceparent` is as before: it has a trace, and the caller has decided.

use std::sync::OnceLock;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample,
};

/// Decides for this process; where there is none, every request has a trace.
static SAMPLER: OnceLock<Sampler> = OnceLock::new();

/// From now on that share of requests has a trace. Only the first call counts.
pub(super) fn trace(share: f64) {
    SAMPLER.get_or_init(|| Sampler::TraceIdRatioBased(share));
}

/// Whether the request that comes now is to have a trace.
pub(super) fn is_chosen() -> bool {
    SAMPLER.get().is_none_or(chooses)
}

fn chooses(sampler: &Sampler) -> bool {
    let trace = RandomIdGenerator::default().new_trace_id();
    let asked = sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
    asked.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_requests_is_what_was_asked_for() {
        for (share, least, most) in [(0.0, 0, 0), (0.01, 800, 1200), (1.0, 100_000, 100_000)] {
            let sampler = Sampler::TraceIdRatioBased(share);
            let chosen = (0..100_000).filter(|_| chooses(&sampler)).count();
            assert!(
                (least..=most).contains(&chosen),
                "{chosen} of 100,000 by {share}"
            );
        }
    }
}
