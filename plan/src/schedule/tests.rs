use jiff::tz::TimeZone;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn by(cron: &str, zone: &str) -> Schedule {
    Schedule::by(
        Calendar::new(cron, Calendar::zone(zone).unwrap()).unwrap(),
        None,
    )
}

/// All due times in (from, to], in local time.
fn fires(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let (schedule, tz) = (by(cron, zone), Calendar::zone(zone).unwrap());
    let mut time = at(from);
    let mut all = Vec::new();
    while let Some(due) = schedule.next(time).filter(|d| *d <= at(to)) {
        assert_eq!(
            schedule.due(time, due),
            Some(due),
            "the same forwards and backwards"
        );
        all.push(
            due.to_zoned(tz.clone())
                .strftime("%d %H:%M %:z")
                .to_string(),
        );
        time = due;
    }
    all
}

#[test]
fn a_time_in_a_gap_fires_once_just_after_it() {
    // Berlin, 29 March 2026: 02:00 +01 becomes 03:00 +02.
    let gap = |cron| {
        fires(
            cron,
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T22:00:00Z",
        )
    };
    assert_eq!(gap("30 2 * * *"), ["29 03:00 +02:00"]);
    assert_eq!(gap("0,20,40 2 * * *"), ["29 03:00 +02:00"]);
    assert_eq!(gap("0 3 * * *"), ["29 03:00 +02:00"]);
    assert_eq!(
        gap("30 1,2,3 * * *"),
        ["29 01:30 +01:00", "29 03:00 +02:00", "29 03:30 +02:00"]
    );
    // What follows elapsed time skips it.
    assert_eq!(
        gap("*/30 1-3 * * *"),
        [
            "29 01:00 +01:00",
            "29 01:30 +01:00",
            "29 03:00 +02:00",
            "29 03:30 +02:00"
        ]
    );
    // Lord Howe moves by half an hour: 02:00 +10:30 becomes 02:30 +11.
    let half = fires(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        "2026-10-04T12:00:00Z",
    );
    assert_eq!(half, ["04 02:30 +11:00"]);
}

#[test]
fn a_time_in_a_doubled_hour_fires_once_and_elapsed_time_goes_on() {
    // New York, 1 November 2026: 02:00 -04 becomes 01:00 -05.
    let fold = |cron| {
        fires(
            cron,
            "America/New_York",
            "2026-11-01T04:30:00Z",
            "2026-11-01T07:30:00Z",
        )
    };
    assert_eq!(fold("30 1 * * *"), ["01 01:30 -04:00"]);
    assert_eq!(fold("0 1,2 * * *"), ["01 01:00 -04:00", "01 02:00 -05:00"]);
    let each = [
        "01 01:00 -04:00",
        "01 01:30 -04:00",
        "01 01:00 -05:00",
        "01 01:30 -05:00",
        "01 02:00 -05:00",
        "01 02:30 -05:00",
    ];
    assert_eq!(fold("*/30 * * * *"), each);
}

#[test]
fn missed_looks_are_made_up_for_once_by_the_latest() {
    let daily = by("0 6 * * *", "UTC");
    assert_eq!(
        daily.due(at("2026-01-01T06:00:00Z"), at("2026-12-31T07:00:00Z")),
        Some(at("2026-12-31T06:00:00Z"))
    );
    assert_eq!(
        daily.due(at("2026-12-31T06:00:00Z"), at("2026-12-31T07:00:00Z")),
        None
    );
    let minutely = by("* * * * *", "UTC");
    assert_eq!(
        minutely.due(at("2000-01-01T00:00:00Z"), at("2026-12-31T07:00:30Z")),
        Some(at("2026-12-31T07:00:00Z"))
    );
    let strict = Schedule {
        deadline: Some(Duration::from_secs(1800)),
        ..daily
    };
    assert_eq!(
        strict.due(at("2026-01-01T00:00:00Z"), at("2026-01-05T06:30:00Z")),
        Some(at("2026-01-05T06:00:00Z"))
    );
    assert_eq!(
        strict.due(at("2026-01-01T00:00:00Z"), at("2026-01-05T06:30:01Z")),
        None
    );
    // Skipped, not waited for.
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-05T07:00:00Z"));
    assert_eq!(strict.upcoming(last, now), Some(at("2026-01-06T06:00:00Z")));
}

#[test]
fn jitter_is_a_fixed_share() {
    let jitter = Duration::from_secs(1800);
    let (a, b) = (
        by("0 6 * * *", "UTC").jittered(jitter, "a"),
        by("0 6 * * *", "UTC").jittered(jitter, "b"),
    );
    assert_eq!(a, by("0 6 * * *", "UTC").jittered(jitter, "a"));
    assert_ne!(a, b);
    let (six, due) = (
        at("2026-01-01T06:00:00Z"),
        a.next(at("2026-01-01T00:00:00Z")).unwrap(),
    );
    assert!(due >= six && due <= after(six, jitter), "{due}");
    // Between the clock time and the put-off one it is not due, nor is the one of the day before.
    assert_eq!(a.next(six), Some(due));
    assert_eq!(
        a.due(
            before(due, Duration::from_secs(86_400)),
            before(due, Duration::from_secs(1))
        ),
        None
    );
    let every = Schedule::every(Duration::from_secs(600));
    assert_eq!(every.next(six), Some(at("2026-01-01T06:10:00Z")));
    assert_eq!(every.due(six, at("2026-01-01T06:09:59Z")), None);
}

#[test]
fn the_period_is_the_longest_gap() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    assert_eq!(Schedule::every(hours(2)).period(), hours(2));
    assert_eq!(by("0 6 * * *", "UTC").period(), hours(24));
    assert_eq!(by("0 6 * * 1-5", "UTC").period(), hours(72));
    assert_eq!(by("30 2 * * *", "Europe/Berlin").period(), hours(24));
}

#[test]
fn what_never_comes_is_refused() {
    let utc = || TimeZone::UTC;
    assert!(matches!(
        Calendar::new("0 0 30 2 *", utc()),
        Err(CalendarError::Never(_))
    ));
    assert!(Calendar::new("0 0 29 2 *", utc()).is_ok());
    for bad in [
        "",
        "@daily",
        "* * * *",
        "0 0 0 * * *",
        "61 * * * *",
        "a b c d e",
    ] {
        assert!(
            matches!(Calendar::new(bad, utc()), Err(CalendarError::Syntax { .. })),
            "{bad}"
        );
    }
    for bad in ["Europe/Atlantis", "Local", "", "CEST+2"] {
        assert!(Calendar::zone(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_window_is_open_from_each_of_its_times_on_for_so_long() {
    let window = |cron, zone, hours: u64| {
        let calendar = Calendar::new(cron, Calendar::zone(zone).unwrap()).unwrap();
        Window::new(calendar, Duration::from_secs(hours * 3600))
    };
    let open = |until| Hours::Open(Some(at(until)));
    let closed = |until| Hours::Closed(Some(at(until)));
    let nights = [window("0 22 * * *", "UTC", 2)];
    let now = |text| Hours::at(&nights, at(text));
    assert_eq!(now("2026-01-01T21:59:59Z"), closed("2026-01-01T22:00:00Z"));
    assert_eq!(now("2026-01-01T22:00:00Z"), open("2026-01-02T00:00:00Z"));
    assert_eq!(now("2026-01-01T23:59:59Z"), open("2026-01-02T00:00:00Z"));
    assert_eq!(now("2026-01-02T00:00:00Z"), closed("2026-01-02T22:00:00Z"));
    // Of several, the one that is open longest counts; without any it is open always.
    let both = [
        window("0 22 * * *", "UTC", 2),
        window("0 23 * * *", "UTC", 4),
    ];
    let late = Hours::at(&both, at("2026-01-01T23:30:00Z"));
    assert_eq!(late, open("2026-01-02T03:00:00Z"));
    assert_eq!(
        Hours::at(&[], at("2026-01-01T23:30:00Z")),
        Hours::Open(None)
    );
    // Berlin, 29 March 2026: from 01:30 +01 to 04:30 +02 are two hours.
    let spring = [window("30 1 * * *", "Europe/Berlin", 2)];
    let until = "2026-03-29T02:30:00Z";
    assert_eq!(Hours::at(&spring, at("2026-03-29T02:29:59Z")), open(until));
}
