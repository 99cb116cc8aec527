//! Every line of the table, and what is in none.

use super::*;

fn reported(code: i64, subcode: Option<i64>) -> Reported {
    Reported {
        code,
        error_subcode: subcode,
        ..Reported::default()
    }
}

fn failure(status: u16, code: i64, subcode: Option<i64>) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    sort(status, None, &reported(code, subcode))
}

fn decision(code: i64, subcode: Option<i64>, stage: Stage) -> Decision {
    decide(code, subcode, failure(400, code, subcode), stage)
}

const LIMITED: fn(LimitScope) -> Failure = |scope| Failure::RateLimited { scope, wait: None };

/// Codes decide what happens to a job, so each row is pinned here, by its first number and its last.
#[test]
fn every_row_has_its_failure() {
    let account = LIMITED(LimitScope::Account);
    let application = LIMITED(LimitScope::Application);
    let publishing = LIMITED(LimitScope::Publishing);
    let mut seen = Vec::new();
    for (codes, subcodes, expected) in [
        (
            vec![190, 102, 10],
            vec![458, 459, 460, 463, 464, 467, 492],
            Failure::ExpiredToken,
        ),
        (
            vec![100],
            vec![33, 2_108_006, 2_207_089],
            Failure::Permanent,
        ),
        (
            vec![-1],
            vec![2_207_001, 2_207_032, 2_207_053],
            Failure::Transient,
        ),
        (
            vec![-2, 9004],
            vec![2_207_003, 2_207_052],
            Failure::Transient,
        ),
        (
            vec![24, -2],
            vec![2_207_006, 2_207_008, 2_207_020],
            Failure::Transient,
        ),
        (vec![9007], vec![2_207_027], Failure::NotReady),
        (vec![9], vec![2_207_042], publishing),
        (vec![25], vec![2_207_050], Failure::Permanent),
        (vec![4], vec![2_207_051], Failure::Permanent),
        (vec![1], vec![2_207_057], Failure::Permanent),
        (
            vec![100, 352, 36_000, 36_004],
            vec![
                2_207_004, 2_207_005, 2_207_009, 2_207_010, 2_207_023, 2_207_026, 2_207_028,
                2_207_035, 2_207_040,
            ],
            Failure::Permanent,
        ),
        (
            vec![0, -1, 100],
            vec![2_207_077, 2_207_085],
            Failure::Permanent,
        ),
        (vec![10], vec![2_207_081], Failure::Permanent),
        (vec![0, -1], vec![2_207_082], Failure::Transient),
        (
            vec![0, 100, 10, 200, 4, 1],
            vec![2_207_000, 2_207_076, 2_207_999],
            Failure::Unclassified,
        ),
        (vec![9, 9007], vec![], publishing),
        (vec![-2, -1, 1, 2, 9004], vec![], Failure::Transient),
        (
            vec![3, 100, 352, 506, 36_000, 36_004],
            vec![],
            Failure::Permanent,
        ),
        (vec![4, 341], vec![], application),
        (vec![10, 200, 275, 299], vec![], Failure::MissingPermission),
        (vec![17, 32, 613, 80_000, 80_002, 80_014], vec![], account),
        (vec![102, 190], vec![], Failure::ExpiredToken),
        (vec![368], vec![], Failure::Blocked),
        // Codes that nothing documents.
        (vec![5, 24, 12_345], vec![], Failure::Unclassified),
    ] {
        for code in codes {
            let subcodes: Vec<_> = match subcodes.as_slice() {
                [] => vec![None],
                some => some.iter().copied().map(Some).collect(),
            };
            for subcode in subcodes {
                let expected = if code == 9007 && subcode.is_none() {
                    Failure::NotReady
                } else {
                    expected
                };
                assert_eq!(failure(400, code, subcode), expected, "{code} {subcode:?}");
                seen.extend(row(code, subcode).map(std::ptr::from_ref));
            }
        }
    }
    for row in SUBCODES.iter().chain([&UNKNOWN_SUBCODE]).chain(CODES) {
        assert!(seen.contains(&std::ptr::from_ref(row)), "{}", row.what);
    }
}

/// What a stage adds: a post that may be public is never decided about without a look, and a
/// container that may only be hidden is not thrown away.
#[test]
fn stages_differ_where_the_effect_is_in_doubt() {
    for (code, subcode, stage, expected) in [
        (100, Some(33), Stage::Status, LookAgain),
        (100, Some(33), Stage::Publish, LookAgain),
        (100, Some(33), Stage::ReadBack, LookAgain),
        (100, Some(33), Stage::Create, Final(CheckAccount)),
        (100, Some(33), Stage::Numbers, Final(CheckAccount)),
        (4, Some(2_207_051), Stage::Publish, LookAgain),
        (4, Some(2_207_051), Stage::Create, Final(ChangePost)),
        (24, Some(2_207_008), Stage::Publish, SameContainer),
        (24, Some(2_207_008), Stage::Create, NewContainer),
        (24, Some(2_207_006), Stage::Publish, LookAgain),
        (10, None, Stage::Publish, Final(GrantPermission)),
        (10, None, Stage::Create, Final(GrantPermission)),
        (10, None, Stage::Status, LookAgain),
        (10, None, Stage::ReadBack, LookAgain),
        (200, None, Stage::Status, Final(GrantPermission)),
        (506, None, Stage::Publish, LookAgain),
        (506, None, Stage::Create, Final(ChangePost)),
        (-1, Some(2_207_032), Stage::Create, SameContainer),
        (-1, Some(2_207_032), Stage::Container, NewContainer),
        (-1, Some(2_207_001), Stage::Publish, LookAgain),
        (-1, Some(2_207_001), Stage::Create, SameContainer),
        (-2, Some(2_207_003), Stage::Container, NewContainer),
        (1, None, Stage::Publish, LookAgain),
        (100, Some(2_207_999), Stage::Publish, LookAgain),
        (100, Some(2_207_999), Stage::Create, Unclassified),
        (100, Some(2_207_087), Stage::Publish, LookAgain),
        (12_345, None, Stage::Publish, LookAgain),
        (
            9007,
            Some(2_207_027),
            Stage::Publish,
            Wait(Pause::Processing),
        ),
        (25, Some(2_207_050), Stage::Publish, Final(OpenInstagram)),
        (368, None, Stage::Publish, Wait(Pause::Block)),
        (190, Some(463), Stage::Publish, Final(Reconnect)),
        (100, Some(2_108_006), Stage::Numbers, Final(LeaveOut)),
        (3, None, Stage::Create, Final(CheckApplication)),
    ] {
        let found = decision(code, subcode, stage);
        assert_eq!(found, expected, "{code} {subcode:?} {stage}");
    }
}

/// Waiting or connecting is right whatever a subcode adds; the application's limit would hold every
/// account on a guess.
#[test]
fn unknown_subcodes_outdo_general_codes_only() {
    let unknown = Some(2_207_099);
    assert_eq!(failure(400, 190, unknown), Failure::ExpiredToken);
    assert_eq!(failure(400, 368, unknown), Failure::Blocked);
    assert_eq!(failure(400, 368, Some(1_390_008)), Failure::Blocked);
    assert_eq!(failure(400, 80_002, unknown), LIMITED(LimitScope::Account));
    assert_eq!(failure(400, 4, unknown), Failure::Unclassified);
    assert_eq!(failure(400, 200, Some(33)), Failure::MissingPermission);
}

/// A general code passes when the API says so; a documented subcode knows better.
#[test]
fn transient_is_believed_beside_a_code_alone() {
    let sorted = |code, subcode| {
        let error = Reported {
            is_transient: true,
            ..reported(code, subcode)
        };
        sort(StatusCode::BAD_REQUEST, None, &error)
    };
    assert_eq!(sorted(100, None), Failure::Transient);
    assert_eq!(sorted(36_003, Some(2_207_009)), Failure::Permanent);
    assert_eq!(
        decide(100, None, Failure::Transient, Stage::Publish),
        LookAgain
    );
}

/// Without a code there is the status; a page of a server in between is not called undocumented.
#[test]
fn statuses_decide_where_there_is_no_code() {
    assert_eq!(failure(429, 0, None), LIMITED(LimitScope::Account));
    assert_eq!(failure(408, 0, None), Failure::Transient);
    assert_eq!(failure(500, 12_345, None), Failure::Transient);
    assert_eq!(failure(404, 0, None), Failure::Permanent);
}

/// A container that failed is replaced or given up, never asked about again.
#[test]
fn failed_containers_are_replaced_or_given_up() {
    for (subcode, expected) in [
        (Some(2_207_003), Failure::Transient),
        (Some(2_207_082), Failure::Transient),
        (Some(2_207_077), Failure::Permanent),
        (Some(2_207_085), Failure::Permanent),
        (Some(2_207_076), Failure::Unclassified),
        (None, Failure::Unclassified),
    ] {
        assert_eq!(sort_container(subcode), expected, "{subcode:?}");
    }
    for row in SUBCODES {
        assert_ne!(row.at(Stage::Container), SameContainer, "{}", row.what);
    }
}

/// Every row says who says so and when; no number is in two rows.
#[test]
fn rows_are_dated_and_distinct() {
    for rows in [SUBCODES, CODES] {
        let mut found: Vec<&RangeInclusive<i64>> = Vec::new();
        for row in rows {
            assert!(row.source.contains("202"), "{}", row.what);
            let own = if row.subcodes.is_empty() {
                row.codes
            } else {
                row.subcodes
            };
            for range in own {
                let clash = found
                    .iter()
                    .any(|other| range.start() <= other.end() && other.start() <= range.end());
                assert!(!clash, "{range:?}");
                found.push(range);
            }
        }
    }
}
