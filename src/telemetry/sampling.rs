//! Sampling of requests whose caller made no decision, for `OTEL_TRACES_SAMPLER=parentbased_traceidratio`.
//!
//! The SDK samples only spans that were created already, and to create a span that is then dropped costs a request more than
//! all other measurements. This module therefore asks the SDK's sampler before a span is created, and the SDK takes every span
//! that exists. If the caller sends a `traceparent`, the caller's decision holds.

use std::sync::OnceLock;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample,
};

/// Sampler of this process; without one, every request is traced.
static SAMPLER: OnceLock<Sampler> = OnceLock::new();

/// Sets the share of requests that are traced. Only the first call has an effect.
pub(super) fn set_ratio(share: f64) {
    SAMPLER.get_or_init(|| Sampler::TraceIdRatioBased(share));
}

/// Decides if the current request is traced.
pub(super) fn should_sample() -> bool {
    SAMPLER.get().is_none_or(samples)
}

fn samples(sampler: &Sampler) -> bool {
    let trace = RandomIdGenerator::default().new_trace_id();
    let result = sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_traced_requests_is_the_configured_one() {
        for (share, least, most) in [(0.0, 0, 0), (0.01, 800, 1200), (1.0, 100_000, 100_000)] {
            let sampler = Sampler::TraceIdRatioBased(share);
            let traced = (0..100_000).filter(|_| samples(&sampler)).count();
            assert!(
                (least..=most).contains(&traced),
                "{traced} of 100,000 by {share}"
            );
        }
    }
}
