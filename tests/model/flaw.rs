//! Mutations of the protocol. Each breaks one rule, and the model must detect each.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A logout answers as soon as the feed has stored its entry.
    NoWait,
    /// A view is dated by the arrival of the read's answer.
    AgeFromArrival,
    /// A full page counts as the end of the feed.
    FullPageIsTheEnd,
    /// A replica that reads from a primary does not check that it is still the primary.
    NoLease,
    /// The lease is dated by the arrival of the acknowledgement.
    LeaseFromArrival,
    /// A replica that holds no lease in a history settles it.
    SettlesWithoutLease,
    /// A logout in a history that has not settled waits for windows alone, not for leases on the former primary.
    ForgetsOldLeases,
    /// A view counts as soon as the replica has read everything.
    NoSettling,
    /// Missing entries are put back after the view counts again, not before.
    ReappendsWhenFresh,
    /// Only the replica that holds the lock puts entries back.
    WaitsForTheLock,
    /// A logout waits for the window of its own replica only.
    OwnWindowOnly,
    /// An append reports windows that were announced in a history that has been lost, or is being restored.
    WindowsOfAnyHistory,
    /// A replica announces its window on every connection and each minute, and not again after a discontinuity.
    AnnouncesOncePerConnection,
    /// A view counts before its window is announced.
    CountsBeforeAnnouncing,
    /// An announcement is dated by the arrival of its answer.
    AnnouncementFromArrival,
    /// With a window of zero, a request accepts the result of a read that was under way when the request came.
    JoinsAReadUnderWay,
    /// A replica recognises a loss by the process and the last ID only: it does not see a `FLUSHALL` followed by an append.
    TrustsTheHistory,
    /// A logout waits for the exact window, to the microsecond, by a clock that may run fast.
    NoMargin,
}
