//! Rules that a history must keep: the service's guarantees for one operation after another, whatever runs concurrently.
//!
//! An operation takes effect at some moment between its invocation and its answer. If its outcome is unknown, it takes effect
//! at any moment after its invocation, or never. So an operation that was invoked after the answer of another comes after
//! that other, and of two that overlap either may be first.
//!
//! A logout revokes its session. A logout from everywhere revokes all sessions of the account that were open when it took
//! effect: certainly those whose login had been answered before it was invoked, possibly those that were opened concurrently.
//!
//! A user has a limited number of sessions, and a new login evicts the oldest: a session may also end because `MOST_SESSIONS`
//! others were opened after it.

use std::collections::HashMap;

use super::history::{Operation, Outcome, Session, What};

/// Maximum number of sessions that a user has at one time.
const MOST_SESSIONS: usize = 20;

/// Violation of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A revoked session stays revoked: the revocation was answered before this operation was invoked, and this operation
    /// accepts the session.
    RevokedAndAccepted,
    /// A view never goes back: this replica has refused the session before this operation was invoked, and accepts the
    /// session now. The rule also holds if the revocation itself was answered 503 and may have either outcome at other
    /// replicas.
    RefusedAndAcceptedAgain,
    /// No operation that could have revoked the session was invoked before this refusal was answered.
    RefusedWithoutReason,
    /// A client with a token may log out with it again and again; the answer is always 204 or 503.
    LogoutRefused,
    /// A registration is unique, and this is the second of the name.
    RegisteredTwice,
    /// No registration that could have taken the name was invoked before this refusal was answered.
    TakenByNobody,
    /// This login succeeded with a password other than the one that the name was registered with.
    WrongPasswordAccepted,
    /// The account was registered with this password before this login was invoked, and no operation raced with the login.
    RightPasswordRefused,
}

/// Returns all violations in a history, each with the operation that shows it.
pub fn violations(history: &[Operation]) -> Vec<(Violation, Operation)> {
    let mut names: HashMap<usize, Name<'_>> = HashMap::new();
    let mut opened: HashMap<Session, &Operation> = HashMap::new();
    let mut uses: HashMap<Session, Vec<&Operation>> = HashMap::new();
    for operation in history {
        match operation.what {
            What::Register { name, .. } => {
                names.entry(name).or_default().registrations.push(operation);
            }
            What::LogIn { name, session, .. } => {
                names.entry(name).or_default().logins.push(operation);
                opened.extend(session.map(|session| (session, operation)));
            }
            What::Check { session }
            | What::LogOut { session }
            | What::LogOutEverywhere { session } => {
                uses.entry(session).or_default().push(operation);
            }
        }
    }
    for (session, uses) in &uses {
        let name = names.entry(name_of(opened[session])).or_default();
        let is_everywhere = |it: &&&Operation| matches!(it.what, What::LogOutEverywhere { .. });
        name.everywhere.extend(uses.iter().filter(is_everywhere));
    }
    let mut found = Vec::new();
    for (session, uses) in &uses {
        let login = opened[session];
        look_at_session(login, uses, &names[&name_of(login)], &mut found);
    }
    for name in names.values() {
        look_at_name(name, &mut found);
    }
    found.sort_by_key(|(_, operation)| operation.invoked);
    found
}

/// Operations on a name.
#[derive(Default)]
struct Name<'a> {
    registrations: Vec<&'a Operation>,
    logins: Vec<&'a Operation>,
    /// Logouts from everywhere, with any session.
    everywhere: Vec<&'a Operation>,
}

fn name_of(login: &Operation) -> usize {
    match login.what {
        What::LogIn { name, .. } => name,
        _ => unreachable!("a session is opened by a login"),
    }
}

fn password_of(operation: &Operation) -> usize {
    match operation.what {
        What::Register { password, .. } | What::LogIn { password, .. } => password,
        _ => unreachable!("only who registers or logs in has a password"),
    }
}

type Found = Vec<(Violation, Operation)>;

fn look_at_session(login: &Operation, uses: &[&Operation], name: &Name<'_>, found: &mut Found) {
    let (logouts, checks): (Vec<&Operation>, Vec<&Operation>) = uses
        .iter()
        .copied()
        .partition(|it| matches!(it.what, What::LogOut { .. }));
    let refused_logouts = logouts.iter().filter(|it| !it.may_count());
    found.extend(refused_logouts.map(|&it| (Violation::LogoutRefused, *it)));

    let everywhere = name.everywhere.iter().copied();
    let surely = everywhere.filter(|it| it.invoked >= login.answered);
    let revocations = logouts.iter().copied().chain(surely);
    let revoked = revocations.filter(|it| it.outcome == Outcome::Done);
    let revoked = revoked.map(|it| it.answered).min().unwrap_or(u64::MAX);

    let mut refused_at: HashMap<usize, u64> = HashMap::new();
    for refusal in checks.iter().filter(|it| it.outcome == Outcome::Refused) {
        let first = refused_at.entry(refusal.replica).or_insert(u64::MAX);
        *first = refusal.answered.min(*first);
        // A session that is opened after the answer of a logout from everywhere is not affected by that logout.
        let perhaps = name
            .everywhere
            .iter()
            .filter(|it| it.over() > login.invoked);
        let mut reasons = logouts.iter().chain(perhaps).filter(|it| it.may_count());
        let newer = name.logins.iter().filter(|it| {
            it.may_count() && it.over() > login.invoked && it.invoked < refusal.answered
        });
        // The count includes this login.
        let has_made_room = newer.count() > MOST_SESSIONS;
        if !has_made_room && !reasons.any(|it| it.invoked < refusal.answered) {
            found.push((Violation::RefusedWithoutReason, **refusal));
        }
    }
    for accepted in checks.iter().filter(|it| it.outcome == Outcome::Done) {
        if accepted.invoked > revoked {
            found.push((Violation::RevokedAndAccepted, **accepted));
        }
        let refused = refused_at.get(&accepted.replica);
        if refused.is_some_and(|&refused| accepted.invoked > refused) {
            found.push((Violation::RefusedAndAcceptedAgain, **accepted));
        }
    }
}

fn look_at_name(name: &Name<'_>, found: &mut Found) {
    let registrations = || name.registrations.iter().copied();
    let logins = || name.logins.iter().copied();
    let mut successes: Vec<_> = registrations()
        .filter(|it| it.outcome == Outcome::Done)
        .collect();
    successes.sort_by_key(|it| it.answered);
    let registered = successes.first().copied();
    let again = successes.iter().skip(1);
    found.extend(again.map(|&it| (Violation::RegisteredTwice, *it)));
    for taken in registrations().filter(|it| it.outcome == Outcome::Refused) {
        let mut others = registrations().filter(|it| it.may_count());
        if !others.any(|it| it.invoked < taken.answered) {
            found.push((Violation::TakenByNobody, *taken));
        }
    }

    // Password of the name: the one of the successful registration, or else of the first successful login.
    let mut let_in: Vec<_> = logins().filter(|it| it.outcome == Outcome::Done).collect();
    let_in.sort_by_key(|it| it.answered);
    let Some(evidence) = registered.or(let_in.first().copied()) else {
        return;
    };
    let password = password_of(evidence);
    let mut registered_so = registrations().filter(|it| it.may_count());
    let since = registered_so.find(|it| password_of(it) == password);
    for &login in &let_in {
        let is_right = password_of(login) == password;
        if !is_right || since.is_none_or(|since| since.invoked > login.answered) {
            found.push((Violation::WrongPasswordAccepted, *login));
        }
    }
    let known = let_in.first().into_iter().copied().chain(registered);
    let known = known.map(|it| it.answered).min().unwrap_or(u64::MAX);
    let refused = logins().filter(|it| it.outcome == Outcome::Refused);
    for login in refused.filter(|it| password_of(it) == password && it.invoked > known) {
        // A login that a concurrent logout from everywhere overtakes opens no session.
        let mut everywhere = name.everywhere.iter().filter(|it| it.may_count());
        if !everywhere.any(|it| it.invoked < login.answered && it.over() > login.invoked) {
            found.push((Violation::RightPasswordRefused, *login));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Violation::{
        LogoutRefused, RefusedAndAcceptedAgain, RefusedWithoutReason, RegisteredTwice,
        RevokedAndAccepted, RightPasswordRefused, TakenByNobody, WrongPasswordAccepted,
    };
    use super::*;
    use Outcome::{Done, Refused, Unknown};

    const REGISTER: What = What::Register {
        name: 1,
        password: 1,
    };
    const CHECK: What = What::Check { session: 1 };
    const LOG_OUT: What = What::LogOut { session: 1 };
    const EVERYWHERE: What = What::LogOutEverywhere { session: 1 };

    fn log_in(password: usize, session: Option<Session>) -> What {
        What::LogIn {
            name: 1,
            password,
            session,
        }
    }

    /// Creates an operation at replica 0.
    fn op(what: What, invoked: u64, answered: u64, outcome: Outcome) -> Operation {
        Operation {
            what,
            replica: 0,
            invoked,
            answered,
            outcome,
        }
    }

    fn at(replica: usize, operation: Operation) -> Operation {
        Operation {
            replica,
            ..operation
        }
    }

    /// Returns the violations in a history that begins with a registration and two logins.
    fn found(rest: &[Operation]) -> Vec<Violation> {
        let mut history = vec![
            op(REGISTER, 0, 1, Done),
            op(log_in(1, Some(1)), 2, 3, Done),
            op(log_in(1, Some(2)), 2, 3, Done),
        ];
        history.extend(rest);
        found_in(&history)
    }

    fn found_in(history: &[Operation]) -> Vec<Violation> {
        let all = violations(history);
        all.into_iter().map(|(violation, _)| violation).collect()
    }

    #[test]
    fn a_good_history_shows_nothing() {
        let good = [
            op(CHECK, 4, 5, Done),
            op(log_in(2, None), 4, 5, Refused),
            op(REGISTER, 4, 5, Refused),
            op(LOG_OUT, 10, 20, Done),
            op(CHECK, 11, 19, Refused),
            at(1, op(CHECK, 12, 30, Done)),
            op(CHECK, 21, 22, Refused),
            op(CHECK, 21, 22, Unknown),
            op(LOG_OUT, 30, 31, Done),
        ];
        assert_eq!(found(&good), []);
    }

    #[test]
    fn a_session_that_is_accepted_after_its_logout_answered_is_found_at_any_replica() {
        for replica in 0..3 {
            let bad = [
                op(LOG_OUT, 10, 20, Done),
                at(replica, op(CHECK, 21, 22, Done)),
            ];
            assert_eq!(found(&bad), [RevokedAndAccepted]);
        }
        let overlaps = [op(LOG_OUT, 10, 20, Done), op(CHECK, 19, 22, Done)];
        assert_eq!(found(&overlaps), []);
    }

    #[test]
    fn a_session_that_is_accepted_after_a_logout_from_everywhere_is_found() {
        let other = What::Check { session: 2 };
        let bad = [op(EVERYWHERE, 10, 20, Done), op(other, 21, 22, Done)];
        assert_eq!(found(&bad), [RevokedAndAccepted]);
        // The login is concurrent with the logout, and so perhaps after it.
        let login = op(log_in(1, Some(3)), 9, 11, Done);
        let beside = What::Check { session: 3 };
        for outcome in [Done, Refused] {
            let good = [
                login,
                op(EVERYWHERE, 10, 20, Done),
                op(beside, 21, 22, outcome),
            ];
            assert_eq!(found(&good), []);
        }
    }

    #[test]
    fn a_session_that_a_logout_from_everywhere_ends_twice_is_found() {
        let bad = [op(LOG_OUT, 10, 20, Done), op(EVERYWHERE, 21, 22, Done)];
        assert_eq!(found(&bad), [RevokedAndAccepted]);
    }

    #[test]
    fn a_replica_that_accepts_what_it_refused_is_found_also_where_the_logout_answered_503() {
        let unknown = op(LOG_OUT, 10, 20, Unknown);
        let refused = at(1, op(CHECK, 21, 22, Refused));
        let bad = [unknown, refused, at(1, op(CHECK, 23, 24, Done))];
        assert_eq!(found(&bad), [RefusedAndAcceptedAgain]);
        let elsewhere = [unknown, refused, at(2, op(CHECK, 23, 24, Done))];
        assert_eq!(found(&elsewhere), []);
        let by_logout = [
            op(What::LogOutEverywhere { session: 2 }, 10, 20, Unknown),
            at(1, op(EVERYWHERE, 21, 22, Refused)),
            at(1, op(CHECK, 23, 24, Done)),
        ];
        assert_eq!(found(&by_logout), [RefusedAndAcceptedAgain]);
    }

    #[test]
    fn a_refusal_without_a_reason_is_found() {
        assert_eq!(found(&[op(CHECK, 4, 5, Refused)]), [RefusedWithoutReason]);
        let too_late = [op(CHECK, 4, 5, Refused), op(LOG_OUT, 6, 7, Done)];
        assert_eq!(found(&too_late), [RefusedWithoutReason]);
        let of_another = [
            op(What::LogOut { session: 2 }, 4, 5, Done),
            op(CHECK, 6, 7, Refused),
        ];
        assert_eq!(found(&of_another), [RefusedWithoutReason]);
        let before_it_was_open = [
            op(EVERYWHERE, 4, 5, Done),
            op(log_in(1, Some(3)), 6, 7, Done),
            op(What::Check { session: 3 }, 8, 9, Refused),
        ];
        assert_eq!(found(&before_it_was_open), [RefusedWithoutReason]);
        let had_no_effect = [op(EVERYWHERE, 4, 5, Refused)];
        assert_eq!(found(&had_no_effect), [RefusedWithoutReason]);
    }

    #[test]
    fn a_session_that_made_room_is_refused_and_one_that_need_not_have_is_found() {
        // Beside the first session there is already one more.
        let newer = |count| (0..count).map(|number| op(log_in(1, Some(10 + number)), 4, 5, Done));
        let refused = op(CHECK, 6, 7, Refused);
        let enough = newer(MOST_SESSIONS - 1)
            .chain([refused])
            .collect::<Vec<_>>();
        assert_eq!(found(&enough), []);
        let too_few = newer(MOST_SESSIONS - 2)
            .chain([refused])
            .collect::<Vec<_>>();
        assert_eq!(found(&too_few), [RefusedWithoutReason]);
        let too_late = [op(CHECK, 2, 4, Refused)];
        let too_late = newer(MOST_SESSIONS - 1).chain(too_late).collect::<Vec<_>>();
        assert_eq!(found(&too_late), [RefusedWithoutReason]);
    }

    #[test]
    fn a_logout_that_is_refused_is_found() {
        let bad = [op(LOG_OUT, 4, 5, Done), op(LOG_OUT, 6, 7, Refused)];
        assert_eq!(found(&bad), [LogoutRefused]);
    }

    #[test]
    fn a_second_registration_is_found_and_a_refused_one_without_a_first() {
        let twice = [op(REGISTER, 0, 9, Done), op(REGISTER, 1, 8, Done)];
        assert_eq!(found_in(&twice), [RegisteredTwice]);
        assert_eq!(found_in(&[op(REGISTER, 0, 1, Refused)]), [TakenByNobody]);
        let later = [op(REGISTER, 0, 1, Refused), op(REGISTER, 2, 3, Unknown)];
        assert_eq!(found_in(&later), [TakenByNobody]);
        let unknown = [op(REGISTER, 0, 1, Unknown), op(REGISTER, 2, 3, Refused)];
        assert_eq!(found_in(&unknown), []);
    }

    #[test]
    fn a_wrong_password_that_is_accepted_is_found() {
        let bad = op(log_in(2, Some(3)), 4, 5, Done);
        assert_eq!(found(&[bad]), [WrongPasswordAccepted]);
        let nobody = op(log_in(1, Some(3)), 4, 5, Done);
        assert_eq!(found_in(&[nobody]), [WrongPasswordAccepted]);
        let other = What::Register {
            name: 1,
            password: 2,
        };
        // One of the two registrations took the name; the first login shows which one.
        let two = [
            op(REGISTER, 0, 1, Unknown),
            op(other, 0, 1, Unknown),
            op(log_in(2, Some(3)), 4, 5, Done),
            op(log_in(1, Some(4)), 6, 7, Done),
        ];
        assert_eq!(found_in(&two), [WrongPasswordAccepted]);
    }

    #[test]
    fn a_right_password_that_is_refused_is_found_unless_a_logout_from_everywhere_overtook_it() {
        let login = op(log_in(1, None), 10, 20, Refused);
        assert_eq!(found(&[login]), [RightPasswordRefused]);
        assert_eq!(found(&[login, op(EVERYWHERE, 12, 15, Done)]), []);
        assert_eq!(found(&[login, op(EVERYWHERE, 4, 5, Unknown)]), []);
        let before = [login, op(EVERYWHERE, 4, 5, Done)];
        assert_eq!(found(&before), [RightPasswordRefused]);
        let too_early = [op(REGISTER, 0, 5, Done), op(log_in(1, None), 4, 6, Refused)];
        assert_eq!(found_in(&too_early), []);
    }
}
