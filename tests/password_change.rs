//! Changing a password: once the change is answered, a client that knows only the old password, or holds a token from before,
//! has no access.

use futures_util::future::join_all;
use serde_json::json;

use crate::credentials::store;
use crate::harness::{Answer, Cluster, Dice, PASSWORD, User, patiently, report_zero, rounds};

const NEW: &str = "amber-heron-lagoon-17";

async fn change(cluster: &Cluster, replica: usize, token: &str, from: &str, to: &str) -> Answer {
    let at = cluster.replicas[replica % cluster.replicas.len()].anonymous();
    let body = json!({"current_password": from, "new_password": to}).to_string();
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    at.send("PUT", "/me/password", &headers, Some(&body)).await
}

fn text(answer: &Answer, member: &str) -> String {
    answer.json()[member].as_str().unwrap().to_owned()
}

async fn everywhere(cluster: &Cluster, token: &str) -> Vec<u16> {
    let at = |number: usize| {
        let at = cluster.replicas[number].anonymous();
        async move { patiently(async || at.dashboard(token).await).await.status }
    };
    join_all((0..cluster.replicas.len()).map(at)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_all_sessions_but_this_one_which_goes_on_with_new_tokens() {
    let cluster = Cluster::of(3).await;
    let rounds = rounds(5, 100);
    for round in 0..rounds {
        let this = cluster.user(&format!("user-{round}")).await;
        let other = User::log_in(&cluster.replicas[1].anonymous(), &this.name).await;
        let changed = change(&cluster, round, &this.token, PASSWORD, NEW).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        for token in [&this.token, &other.token] {
            assert_eq!(everywhere(&cluster, token).await, [401; 3]);
        }
        assert_eq!(
            everywhere(&cluster, &text(&changed, "token")).await,
            [200; 3]
        );
        let at = cluster.anonymous();
        assert_eq!(at.refresh(&other.refresh_token).await.status, 401);
        assert_eq!(
            at.login(&this.name, PASSWORD).await.code(),
            "invalid_credentials"
        );
        assert_eq!(at.login(&this.name, NEW).await.status, 200);
        // A client that missed the response reaches the same state with the token that it has.
        let again = at.refresh(&this.refresh_token).await;
        assert_eq!(
            text(&again, "refresh_token"),
            text(&changed, "refresh_token")
        );
        let next = at.refresh(&text(&changed, "refresh_token")).await;
        assert_eq!(everywhere(&cluster, &text(&next, "token")).await, [200; 3]);
    }
    report_zero("tokens accepted after a password change", rounds * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_at_its_place_and_changes_nothing() {
    let cluster = Cluster::alone().await;
    let user = cluster.user("alice").await;
    let pointer = |answer: &Answer| {
        assert_eq!(answer.code(), "validation_failed");
        answer.json()["errors"][0]["pointer"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let wrong = change(&cluster, 0, &user.token, "not my password", NEW).await;
    assert_eq!(pointer(&wrong), "/current_password");
    let long = "x".repeat(300);
    let wrong = change(&cluster, 0, &user.token, &long, NEW).await;
    assert_eq!(pointer(&wrong), "/current_password");
    for weak in ["short", "password123", &long] {
        let weak = change(&cluster, 0, &user.token, PASSWORD, weak).await;
        assert_eq!(pointer(&weak), "/new_password");
    }
    assert_eq!(everywhere(&cluster, &user.token).await, [200]);
    assert_eq!(user.at.login("alice", PASSWORD).await.status, 200);
    user.at.logout(&user.token).await;
    let gone = change(&cluster, 0, &user.token, PASSWORD, NEW).await;
    assert_eq!(gone.code(), "invalid_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_c8_a_login_rehash_or_refresh_that_races_a_password_change_opens_nothing() {
    let cluster = Cluster::of(3).await;
    let mut dice = Dice::new();
    let rounds = rounds(40, 1000);
    let owner = cluster.user("alice").await;
    let (mut token, mut password) = (owner.token, PASSWORD.to_owned());
    let mut met = 0;
    for round in 0..rounds {
        let at = cluster.replicas[dice.below(3)].anonymous();
        let thief = patiently(async || at.login("alice", &password).await).await;
        // A foreign hash, which a successful login replaces.
        let foreign = bcrypt::hash(&password, 4).unwrap();
        store(&cluster, "alice", &foreign).await;
        let (later, next) = (dice.below(60), format!("{NEW}-{round}"));
        let racing = async {
            tokio::time::sleep(std::time::Duration::from_millis(later as u64)).await;
            let stolen = text(&thief, "refresh_token");
            tokio::join!(at.login("alice", &password), at.refresh(&stolen))
        };
        let changing = change(&cluster, dice.below(3), &token, &password, &next);
        let (changed, (login, refreshed)) = tokio::join!(changing, racing);
        assert_eq!(changed.status, 200, "{changed:?}");
        met += usize::from(login.status == 200);
        for racer in [login, refreshed] {
            if racer.status == 200 {
                assert_eq!(everywhere(&cluster, &text(&racer, "token")).await, [401; 3]);
                let refreshed = at.refresh(&text(&racer, "refresh_token")).await;
                assert_eq!(refreshed.status, 401);
            }
        }
        // A renewed hash of the old password would have restored that password.
        assert_eq!(at.login("alice", &password).await.status, 401);
        token = text(&changed, "token");
        assert_eq!(everywhere(&cluster, &token).await, [200; 3]);
        // The session that the change kept is still valid.
        let traded = text(&changed, "refresh_token");
        let kept = patiently(async || at.refresh(&traded).await).await;
        assert_eq!(kept.status, 200, "{kept:?}");
        token = text(&kept, "token");
        password = next;
    }
    println!("{rounds} interleavings; in {met} the login came first");
    report_zero("doors left open by a password change", rounds * 2);
}
