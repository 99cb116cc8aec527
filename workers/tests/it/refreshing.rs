//! Reading an account's numbers in few requests, and what can be had of them.

use oxbull_instagram_simulator::{Fault, MissingData, Operation, SimulatorOptions};
use oxbull_testkit::{DEADLINE, TestResult};
use oxbull_workers::graph::{AccountId, Failure, LimitScope, Throttle, UsageMeter};
use oxbull_workers::jobs::BoxError;
use oxbull_workers::jobs::analytics_refresh::{
    Allowance, Denial, Overview, RefreshError, RefreshLimits, overview_key, refresh,
};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{ACCOUNT, GraphFixture};

/// Denies what it is told to, in order, and lets everything else through.
#[derive(Default)]
struct Breakpoint(Mutex<Vec<Option<Denial>>>);

impl Allowance for Breakpoint {
    async fn take(&self, _: &AccountId) -> Result<Option<Denial>, BoxError> {
        Ok(self.0.lock().unwrap().pop().flatten())
    }
}

async fn fixture(older_posts: usize) -> TestResult<GraphFixture> {
    GraphFixture::with(SimulatorOptions::new().older_posts(older_posts), DEADLINE).await
}

async fn read(fixture: &GraphFixture) -> Result<Overview, RefreshError> {
    let limits = RefreshLimits::default();
    refresh(fixture.api(), &Breakpoint::default(), &limits, false, 0).await
}

fn requests(fixture: &GraphFixture) -> u64 {
    fixture.simulator.counters().requests.values().sum()
}

fn lacking(overview: &Overview) -> Vec<(usize, &[String])> {
    let posts = overview.media.iter().enumerate();
    posts
        .filter(|(_, post)| !post.missing.is_empty())
        .map(|(index, post)| (index, post.missing.as_slice()))
        .collect()
}

/// Ten thousand accounts a night leave no room for a request a post: one reads all of an account.
#[tokio::test]
async fn account_and_posts_are_read_in_one_request() -> TestResult {
    let fixture = fixture(40).await?;
    let overview = read(&fixture).await?;
    assert_eq!(requests(&fixture), 1);
    assert!(overview.followers.is_some() && overview.profile_views.is_some());
    assert_eq!(overview.media.len(), 25);
    assert_eq!((overview.partial, overview.missing.len()), (false, 0));
    // The simulator's posts have 8 likes, 1 comment, 2 shares and 3 saves for 100 accounts reached.
    for post in &overview.media {
        assert_eq!(post.engagement_rate, Some(0.14));
    }
    let key = overview_key(&overview.account_id);
    assert_eq!(key, format!("api:analytics:overview:{ACCOUNT}"));
    Ok(())
}

/// More posts than a page has are read by its cursor, each once.
#[tokio::test]
async fn pages_follow_one_another() -> TestResult {
    let fixture = fixture(70).await?;
    let limits = RefreshLimits {
        posts: 60,
        ..RefreshLimits::default()
    };
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, false, 0).await?;
    let mut ids: Vec<_> = overview.media.iter().map(|post| &post.media_id).collect();
    ids.dedup();
    assert_eq!((ids.len(), overview.partial), (60, false));
    assert_eq!(requests(&fixture), 2);
    Ok(())
}

/// An account without posts lacks nothing, and one whose posts are not wanted neither.
#[tokio::test]
async fn account_without_posts_is_complete() -> TestResult {
    let fixture = fixture(0).await?;
    assert!(!read(&fixture).await?.partial);
    let limits = RefreshLimits {
        posts: 0,
        ..RefreshLimits::default()
    };
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, false, 0).await?;
    assert_eq!((overview.partial, overview.media.len()), (false, 0));
    assert_eq!(requests(&fixture), 2);
    Ok(())
}

/// The API leaves out numbers that are too small to count: null and named, not zero.
#[tokio::test]
async fn missing_numbers_are_named_not_invented() -> TestResult {
    let fixture = fixture(3).await?;
    let left_out = MissingData::of_account("profile_views").left_out();
    fixture.simulator.remove_data(ACCOUNT, left_out);
    let hidden = MissingData::of_post(1, "like_count").left_out();
    fixture.simulator.remove_data(ACCOUNT, hidden);
    let overview = read(&fixture).await?;
    assert_eq!(overview.profile_views, None);
    assert_eq!(overview.missing, ["profileViews"]);
    assert_eq!(lacking(&overview), [(1, &["likes".to_owned()][..])]);
    assert_eq!(overview.media[1].engagement_rate, None);
    assert!(overview.partial);
    assert_eq!(requests(&fixture), 1);
    Ok(())
}

/// A metric that the account does not have makes the API refuse everything; all the rest is
/// fetched without it.
#[tokio::test]
async fn refused_metric_of_an_account_costs_nothing_else() -> TestResult {
    let fixture = fixture(25).await?;
    fixture
        .simulator
        .remove_data(ACCOUNT, MissingData::of_account("views"));
    let overview = read(&fixture).await?;
    assert_eq!(overview.missing, ["views"]);
    assert!(overview.partial && overview.reach.is_some() && overview.profile_views.is_some());
    assert_eq!((overview.media.len(), lacking(&overview).len()), (25, 0));
    // All at once, the profile, insights twice, the posts.
    assert_eq!(requests(&fixture), 5);
    Ok(())
}

/// One post without a metric loses that metric, and no other post loses anything.
#[tokio::test]
async fn refused_metric_of_a_post_costs_no_other_post() -> TestResult {
    let fixture = fixture(25).await?;
    fixture
        .simulator
        .remove_data(ACCOUNT, MissingData::of_post(4, "shares"));
    let overview = read(&fixture).await?;
    assert_eq!(overview.media.len(), 25);
    assert_eq!(lacking(&overview), [(4, &["shares".to_owned()][..])]);
    assert!(overview.partial && overview.missing.is_empty());
    // All at once, three parts, the halves down to the post, the post without it, the rest in groups.
    assert!(requests(&fixture) <= 13, "{}", requests(&fixture));
    Ok(())
}

/// Posts that lack a metric cost one more request for the page, and no value of their neighbours but
/// perhaps that metric's, which is looked for as far as requests are left.
#[tokio::test]
async fn metric_that_many_posts_lack_costs_no_other_metric() -> TestResult {
    for (lacking_views, enough) in [
        (&[1, 6, 13, 20][..], 10),
        (&[0, 2, 5, 9, 11, 14, 19, 24], 5),
    ] {
        let fixture = fixture(25).await?;
        for post in lacking_views {
            fixture
                .simulator
                .remove_data(ACCOUNT, MissingData::of_post(*post, "views"));
        }
        let overview = read(&fixture).await?;
        assert!(requests(&fixture) <= 20);
        assert_eq!(overview.media.len(), 25);
        for (index, post) in overview.media.iter().enumerate() {
            let others = [post.reach, post.saves, post.shares];
            assert!(others.iter().all(Option::is_some), "{index}: {post:?}");
            if lacking_views.contains(&index) {
                assert_eq!(post.missing, ["views"]);
            }
        }
        let found = overview.media.iter().filter(|post| post.views.is_some());
        let found = found.count();
        assert!(found >= enough, "{found} of {}", 25 - lacking_views.len());

        // With no request to spare, the page without the metric is all there is.
        let limits = RefreshLimits {
            requests: 4,
            ..RefreshLimits::default()
        };
        let before = requests(&fixture);
        let denied = Breakpoint::default();
        let overview = refresh(fixture.api(), &denied, &limits, false, 0).await?;
        assert_eq!(requests(&fixture), before + 4);
        assert!(overview.media.iter().all(|post| post.likes.is_some()));
    }
    Ok(())
}

/// A refusal that does not name the metric costs each post at most that metric as well.
#[tokio::test]
async fn metric_that_is_not_named_is_found() -> TestResult {
    let fixture = fixture(25).await?;
    for post in [3, 17] {
        let missing = MissingData::of_post(post, "saved").unnamed();
        fixture.simulator.remove_data(ACCOUNT, missing);
    }
    let overview = read(&fixture).await?;
    for (post, lacks) in lacking(&overview) {
        assert_eq!(lacks, ["saves"], "{post}");
    }
    assert!(overview.media[0].saves.is_some() && overview.media[3].saves.is_none());
    assert!(requests(&fixture) <= 20);
    Ok(())
}

/// Of the first post from before the account's conversion it follows that all older ones have no insights:
/// they are not asked about, on this page or the next.
#[tokio::test]
async fn posts_before_the_conversion_are_not_asked_about() -> TestResult {
    let fixture = fixture(120).await?;
    let old = MissingData::before_conversion(7);
    fixture.simulator.remove_data(ACCOUNT, old);
    let limits = RefreshLimits {
        posts: 120,
        ..RefreshLimits::default()
    };
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, false, 0).await?;
    assert_eq!(overview.media.len(), 120);
    let first: Vec<_> = lacking(&overview)
        .into_iter()
        .map(|(post, _)| post)
        .collect();
    assert_eq!(first, (7..120).collect::<Vec<_>>());
    assert!(overview.media.iter().all(|post| post.likes.is_some()));
    // All at once, profile, insights, three pages, and the halves of the first down to the seventh.
    assert!(requests(&fixture) <= 6 + 7, "{}", requests(&fixture));
    Ok(())
}

/// The usage header of a token that serves several accounts and products holds this account by its own
/// entry alone.
#[tokio::test]
async fn usage_of_others_does_not_hold_the_account() -> TestResult {
    let options = SimulatorOptions::new().older_posts(5).foreign_usage();
    let fixture = GraphFixture::with(options, DEADLINE).await?;
    let id = AccountId::new(ACCOUNT)?;
    let meter = UsageMeter::for_account(&id);
    let api = fixture.api().metered(&meter);
    let limits = RefreshLimits::default();
    let overview = refresh(api, &Breakpoint::default(), &limits, false, 0).await?;
    assert!(!overview.partial);
    assert_eq!(meter.throttle(), Throttle::default());
    fixture.simulator.arm(Fault::usage(96, 0));
    refresh(api, &Breakpoint::default(), &limits, false, 0).await?;
    assert!(meter.throttle().stop);
    Ok(())
}

/// Posts from before the account became a professional one have no insights; their likes and
/// comments are there all the same.
#[tokio::test]
async fn posts_without_insights_keep_their_counters() -> TestResult {
    let fixture = fixture(12).await?;
    for post in [10, 11] {
        fixture
            .simulator
            .remove_data(ACCOUNT, MissingData::insights_of_post(post));
    }
    let overview = read(&fixture).await?;
    let insights = ["shares", "saves", "reach", "views"].map(str::to_owned);
    assert_eq!(
        lacking(&overview),
        [(10, &insights[..]), (11, &insights[..])]
    );
    assert!(overview.media[11].likes.is_some() && overview.media[11].comments.is_some());
    Ok(())
}

/// Without the permission for insights there are none, so they are not looked for post by post.
#[tokio::test]
async fn account_without_permission_for_insights_keeps_its_counters() -> TestResult {
    let fixture = fixture(25).await?;
    for operation in [
        Operation::Overview,
        Operation::Insights,
        Operation::PostNumbers,
    ] {
        let refused = Fault::error(403, 10).on(operation).times(1);
        fixture.simulator.arm(refused);
    }
    let overview = read(&fixture).await?;
    assert_eq!(overview.missing, ["reach", "views", "profileViews"]);
    assert_eq!((overview.media.len(), lacking(&overview).len()), (25, 25));
    assert!(overview.followers.is_some() && overview.media[24].likes.is_some());
    assert_eq!(requests(&fixture), 5);
    Ok(())
}

/// However much an account lacks, it is asked about a bounded number of times, and what could not
/// be asked for is marked.
#[tokio::test]
async fn requests_for_one_account_are_bounded() -> TestResult {
    let fixture = fixture(25).await?;
    for post in 0..25 {
        fixture
            .simulator
            .remove_data(ACCOUNT, MissingData::insights_of_post(post));
    }
    let limits = RefreshLimits {
        requests: 9,
        ..RefreshLimits::default()
    };
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, false, 0).await?;
    assert_eq!(requests(&fixture), 9);
    assert_eq!(overview.media.len(), 25);
    assert_eq!(lacking(&overview).len(), 25);
    assert!(overview.media.iter().all(|post| post.likes.is_some()));
    assert!(overview.missing.is_empty());
    Ok(())
}

/// A passing failure is worth another attempt for the sake of the whole; the last attempt takes
/// what there is and marks it.
#[tokio::test]
async fn last_attempt_settles_for_what_there_is() -> TestResult {
    let fixture = fixture(5).await?;
    let broken = |operation| Fault::error(500, 2).on(operation);
    fixture.simulator.arm(broken(Operation::Overview));
    fixture.simulator.arm(broken(Operation::Insights));
    let error = read(&fixture).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Transient);
    assert_eq!(requests(&fixture), 1);

    let limits = RefreshLimits::default();
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, true, 0).await?;
    assert_eq!(overview.missing, ["reach", "views", "profileViews"]);
    assert!(overview.partial && overview.followers.is_some());
    assert_eq!((overview.media.len(), lacking(&overview).len()), (5, 0));

    fixture.simulator.arm(broken(Operation::PostNumbers));
    let overview = refresh(fixture.api(), &Breakpoint::default(), &limits, true, 0).await?;
    assert!(overview.missing.contains(&"media".to_owned()));

    // Without the profile there is nothing to show.
    fixture.simulator.arm(broken(Operation::Profile));
    let refused = refresh(fixture.api(), &Breakpoint::default(), &limits, true, 0).await;
    assert_eq!(refused.unwrap_err().failure(), Failure::Transient);
    Ok(())
}

/// What asking for less cannot heal is not asked again in parts.
#[tokio::test]
async fn expired_tokens_limits_and_unknown_accounts_are_asked_about_once() -> TestResult {
    let fixture = fixture(5).await?;
    for (fault, expected) in [
        (Fault::error(400, 190), Failure::ExpiredToken),
        (Fault::error(400, 100).subcode(33), Failure::Permanent),
        (
            Fault::error(403, 4),
            Failure::RateLimited {
                scope: LimitScope::Application,
                wait: None,
            },
        ),
    ] {
        fixture.simulator.disarm();
        fixture.simulator.arm(fault);
        let before = requests(&fixture);
        assert_eq!(read(&fixture).await.unwrap_err().failure(), expected);
        assert_eq!(requests(&fixture), before + 1);
    }
    Ok(())
}

/// A budget that is used up is respected before the API is asked; a run that has read something
/// waits a little rather than to read all of it again.
#[tokio::test]
async fn used_up_budget_is_waited_for_only_in_the_middle_of_a_run() -> TestResult {
    let fixture = fixture(5).await?;
    let denied = |wait| {
        Some(Denial {
            scope: LimitScope::Account,
            wait,
        })
    };
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(3600));
    let limits = RefreshLimits::default();
    let at_once = Breakpoint(Mutex::new(vec![denied(short)]));
    let refused = refresh(fixture.api(), &at_once, &limits, false, 0).await;
    assert!(matches!(refused, Err(RefreshError::Budget(_))));
    assert_eq!(requests(&fixture), 0);

    fixture
        .simulator
        .remove_data(ACCOUNT, MissingData::of_account("views"));
    let later = Breakpoint(Mutex::new(vec![denied(short), None]));
    let overview = refresh(fixture.api(), &later, &limits, false, 0).await?;
    assert_eq!(overview.missing, ["views"]);
    let too_long = Breakpoint(Mutex::new(vec![denied(long), None]));
    let refused = refresh(fixture.api(), &too_long, &limits, false, 0).await;
    let wait = Some(long);
    let scope = LimitScope::Account;
    let failure = refused.unwrap_err().failure();
    assert_eq!(failure, Failure::RateLimited { scope, wait });
    Ok(())
}
