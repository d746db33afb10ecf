//! Ways to get the protocol wrong. Each is a change of one rule, and each must be found out.

/// One rule broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A logout answers as soon as the feed has taken it.
    NoWait,
    /// A view is dated by when its read's answer came.
    AgeFromArrival,
    /// A full page is taken for the end of the feed.
    FullPageIsTheEnd,
    /// Who reads from a primary does not ask whether it still is one.
    NoLease,
    /// The lease is dated by when the acknowledgement came.
    LeaseFromArrival,
    /// A history is settled by somebody who holds no lease in it.
    SettlesWithoutLease,
    /// A logout in a history that has not settled waits for windows alone, not for leases on the former primary.
    ForgetsOldLeases,
    /// A view counts as soon as everything has been read.
    NoSettling,
    /// What the feed lacks is put back after the view counts again, not before.
    ReappendsWhenFresh,
    /// Entries are put back only by whoever gets the lock.
    WaitsForTheLock,
    /// A logout waits for the window of its own replica only.
    OwnWindowOnly,
    /// An append tells the windows announced in a history that has been lost, or is being made up again.
    WindowsOfAnyHistory,
    /// A window is announced on every connection and each minute, and not again after a discontinuity.
    AnnouncesOncePerConnection,
    /// A view counts before its window is announced.
    CountsBeforeAnnouncing,
    /// An announcement is dated by when its answer came.
    AnnouncementFromArrival,
    /// With a window of zero, a request is content with a read that was under way when it came.
    JoinsAReadUnderWay,
    /// Only the process and the last id tell that something was lost: a `FLUSHALL` followed by an append is not seen.
    TrustsTheHistory,
    /// A logout waits for the window to the microsecond, by a clock that may run fast.
    NoMargin,
}
