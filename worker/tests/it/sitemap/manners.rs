//! How politely a site is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use loci_worker::source::{Probe, SitemapSpec, probe};

use super::site::{Answer, Site, urlset};
use super::{refused, sitemap, source};
use crate::support::{Sink, documents, skipped};

#[tokio::test]
async fn what_robots_txt_does_not_allow_is_not_asked_for() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.robots("User-agent: *\nDisallow: /\n\nUser-agent: loci\nDisallow: /private\nAllow: /private/open\n");
    for page in ["/a", "/private/b", "/private/open"] {
        site.page(page, page);
    }
    site.sitemap(
        "/sitemap.xml",
        urlset(
            &base,
            &[("/a", ""), ("/private/b", ""), ("/private/open", "")],
        ),
    );
    let (source, sink) = (source(sitemap(&base)), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(sink.taken(), ["/a", "/private/open"]);
    let reason = skipped(&first, "URLs that robots.txt does not allow");
    assert!(reason.contains(&format!("{base}/private/b")), "{reason}");
    assert!(!site.paths().contains(&"/private/b".to_owned()));

    // Nobody is asked who cannot say what is allowed; what was read is kept, as the source failed.
    site.set("/robots.txt", Answer::Status(StatusCode::BAD_GATEWAY));
    let error = sink.snapshot(&source, Some(&first)).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("robots.txt cannot be read") && error.contains("502"),
        "{error}"
    );
    assert_eq!(site.paths(), ["/robots.txt"]);

    site.robots("User-agent: loci\nCrawl-delay: 3600\n");
    let error = refused(sitemap(&base)).await;
    assert!(
        error.contains("asks for 3600 s") && error.contains("http.urls"),
        "{error}"
    );
}

#[tokio::test]
async fn requests_keep_the_longer_of_the_declared_pause_and_the_crawl_delay() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    for page in ["/a", "/b"] {
        site.page(page, page);
    }
    site.sitemap("/sitemap.xml", urlset(&base, &[("/a", ""), ("/b", "")]));
    let gaps = |pause: Duration| {
        let (site, base) = (Arc::clone(&site), base.clone());
        async move {
            let slow = SitemapSpec {
                pause,
                ..sitemap(&base)
            };
            site.asked();
            let sink = Sink::default();
            sink.snapshot(&source(slow), None).await.unwrap();
            let at: Vec<Instant> = site.asked().iter().map(|seen| seen.at).collect();
            assert_eq!(at.len(), 4);
            // The pace that robots.txt asks for holds after it was read.
            let gaps = at[1..].windows(2).map(|two| two[1] - two[0]);
            gaps.min().unwrap()
        }
    };
    let shortest = gaps(Duration::from_millis(300)).await;
    assert!(shortest >= Duration::from_millis(295), "{shortest:?}");
    site.robots("User-agent: *\nCrawl-delay: 1\n");
    let shortest = gaps(Duration::from_millis(1)).await;
    assert!(shortest >= Duration::from_millis(990), "{shortest:?}");
}

#[tokio::test]
async fn a_busy_server_is_given_time_and_one_that_fails_is_left_alone() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.set("/a", Answer::Busy(1, "<p>a".into()));
    site.sitemap("/sitemap.xml", urlset(&base, &[("/a", "")]));
    let begun = Instant::now();
    let sink = Sink::default();
    sink.snapshot(&source(sitemap(&base)), None).await.unwrap();
    assert_eq!(sink.taken(), ["<p>a"]);
    assert!(begun.elapsed() >= Duration::from_millis(900), "Retry-After");

    let names: Vec<String> = (0..20).map(|i| format!("/{i:02}")).collect();
    let pages: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    site.sitemap("/sitemap.xml", urlset(&base, &pages));
    site.page("/00", "<p>0");
    for name in &names[1..] {
        site.set(name, Answer::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    site.asked();
    let source = source(sitemap(&base));
    let listing = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(site.asked().len(), 2 + 1 + 5, "five failures in a row");
    assert_eq!(documents(&listing), [format!("{base}/00")]);
    assert!(skipped(&listing, &format!("{base}/01")).contains("answered 500"));
    assert!(skipped(&listing, &format!("{base}/19")).contains("5 times in a row"));
    assert_eq!(
        probe(&source, Some(&listing.state)).await.unwrap(),
        Probe::Unchanged
    );
    site.page("/01", "<p>1");
    assert!(matches!(
        probe(&source, Some(&listing.state)).await.unwrap(),
        Probe::Changed(words) if words.contains("/01 answers again")
    ));
}
