//! Sitemaps of a real server on loopback, and how politely they are followed.

mod manners;
mod site;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use loci_worker::source::{
    HttpCredentials, HttpSpec, Limits, Probe, Secret, SitemapSpec, SourceKind, SourceSpec, probe,
};

use self::site::{Answer, Site, index, urlset};
use crate::http::gzip;
use crate::support::{Sink, documents, skipped, spec};

fn sitemap(base: &str) -> SitemapSpec {
    SitemapSpec {
        urls: vec![format!("{base}/sitemap.xml")],
        pause: Duration::from_millis(1),
        ..SitemapSpec::default()
    }
}

fn source(sitemap: SitemapSpec) -> SourceSpec {
    spec(SourceKind::Http(HttpSpec {
        sitemap: Some(sitemap),
        allow_private: true,
        ..HttpSpec::default()
    }))
}

async fn refused(sitemap: SitemapSpec) -> String {
    let sink = Sink::default();
    let refused = sink.snapshot(&source(sitemap), None).await;
    refused.unwrap_err().to_string()
}

#[tokio::test]
async fn pages_are_asked_for_when_they_are_new_or_the_sitemap_says_that_they_changed() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.page("/a", "<p>a");
    site.page("/b", "<p>b");
    site.page("/c", "<p>c");
    site.sitemap(
        "/sitemap.xml",
        urlset(&base, &[("/a", "2024-01-01"), ("/b", "")]),
    );
    let (source, sink) = (source(sitemap(&base)), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(
        documents(&first),
        [format!("{base}/a"), format!("{base}/b")]
    );
    assert_eq!(sink.taken(), ["<p>a", "<p>b"]);
    let asked = site.asked();
    let paths: Vec<_> = asked.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(paths, ["/robots.txt", "/sitemap.xml", "/a", "/b"]);
    assert!(asked.iter().all(|seen| seen.agent.starts_with("loci/")));

    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Unchanged
    );
    assert_eq!(site.paths(), ["/robots.txt", "/sitemap.xml"]);
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!((&second, sink.taken()), (&first, Vec::new()));
    assert_eq!(site.paths(), ["/robots.txt", "/sitemap.xml"]);

    site.page("/a", "<p>a, again");
    site.page("/b", "<p>b, again");
    site.sitemap(
        "/sitemap.xml",
        urlset(&base, &[("/a", "2024-02-02"), ("/b", ""), ("/c", "")]),
    );
    assert_eq!(
        probe(&source, Some(&second.state)).await.unwrap(),
        Probe::Changed("1 new, 1 changed, 0 gone".into())
    );
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(sink.taken(), ["<p>a, again", "<p>c"]);
    site.asked();

    sink.forget(&third, &format!("{base}/c"));
    sink.snapshot(&source, Some(&third)).await.unwrap();
    assert_eq!(sink.taken(), ["<p>c"], "lost content is asked for again");
}

#[tokio::test]
async fn all_pages_are_asked_for_once_in_a_while() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.page("/a", "<p>a");
    site.page("/b", "<p>b");
    site.sitemap(
        "/sitemap.xml",
        urlset(&base, &[("/a", "2024-01-01"), ("/b", "")]),
    );
    let often = SitemapSpec {
        revisit: Duration::from_secs(1),
        ..sitemap(&base)
    };
    let (source, sink) = (source(often), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    sink.taken();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    site.page("/b", "<p>b, again");
    assert!(matches!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Changed(_)
    ));
    site.asked();
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!(site.paths(), ["/robots.txt", "/sitemap.xml", "/a", "/b"]);
    assert_eq!(sink.taken(), ["<p>b, again"], "the other answered 304");
    assert_eq!(documents(&second), documents(&first));
}

#[tokio::test]
async fn an_index_leads_to_sitemaps_plain_or_compressed() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.page("/guide/a", "<p>a");
    site.page("/guide/old/b", "<p>b");
    site.page("/blog/c", "<p>c");
    let (one, two) = (format!("{base}/one.xml"), format!("{base}/two.xml.gz"));
    site.sitemap("/sitemap.xml", index(&[one, two]));
    site.sitemap(
        "/one.xml",
        urlset(&base, &[("/guide/a", ""), ("/guide/old/b", "")]),
    );
    let packed = gzip(urlset(&base, &[("/guide/a", ""), ("/blog/c", "")]).as_bytes());
    site.set("/two.xml.gz", Answer::Text("application/gzip", packed));
    let sink = Sink::default();
    let all = source(sitemap(&base));
    let listing = sink.snapshot(&all, None).await.unwrap();
    assert_eq!(sink.taken(), ["<p>a", "<p>b", "<p>c"]);
    assert_eq!(
        probe(&all, Some(&listing.state)).await.unwrap(),
        Probe::Unchanged
    );
    let some = SitemapSpec {
        include: vec!["guide/**".into()],
        exclude: vec!["guide/old".into()],
        ..sitemap(&base)
    };
    let listing = sink.snapshot(&source(some), None).await.unwrap();
    assert_eq!(documents(&listing), [format!("{base}/guide/a")]);

    let loops = index(&[format!("{base}/sitemap.xml"), format!("{base}/deeper.xml")]);
    site.sitemap("/sitemap.xml", loops);
    for (name, next) in [("deeper", "still"), ("still", "more"), ("more", "end")] {
        let next = index(&[format!("{base}/{next}.xml")]);
        site.sitemap(&format!("/{name}.xml"), next);
    }
    let error = refused(sitemap(&base)).await;
    assert!(error.contains("more.xml: is an index inside"), "{error}");
}

#[tokio::test]
async fn pages_that_cannot_be_read_keep_their_content_and_are_reported() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    let paths = ["/gone", "/missing", "/broken", "/fine"];
    for page in paths {
        site.page(page, page);
    }
    let at = |time: &'static str| paths.map(|path| (path, time));
    site.sitemap("/sitemap.xml", urlset(&base, &at("1")));
    let (source, sink) = (source(sitemap(&base)), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    site.set("/gone", Answer::Status(StatusCode::GONE));
    site.set("/missing", Answer::Status(StatusCode::NOT_FOUND));
    site.set("/broken", Answer::Status(StatusCode::BAD_GATEWAY));
    site.sitemap("/sitemap.xml", urlset(&base, &at("2")));
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    let kept: BTreeSet<_> = documents(&second).into_iter().map(str::to_owned).collect();
    let expected = ["/missing", "/broken", "/fine"].map(|path| format!("{base}{path}"));
    assert_eq!(kept, expected.into());
    assert!(skipped(&second, &format!("{base}/gone")).contains("410"));
    for (page, reason) in [("/missing", "404"), ("/broken", "502")] {
        let told = skipped(&second, &format!("{base}{page}"));
        assert!(
            told.contains(reason) && told.contains("last good content is kept"),
            "{told}"
        );
    }
    site.asked();
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(
        site.paths(),
        ["/robots.txt", "/sitemap.xml", "/broken"],
        "only what may be otherwise by now is asked for again"
    );
    assert_eq!(third.skipped, second.skipped);
    assert_eq!(third.documents, second.documents);
}

#[tokio::test]
async fn other_hosts_are_read_only_when_they_are_named_and_never_get_the_token() {
    let (site, address) = Site::start().await;
    let (other, elsewhere) = Site::start().await;
    let base = format!("http://localhost:{}", address.port());
    let far = format!("http://{elsewhere}");
    site.page("/a", "<p>a");
    site.set("/moved", Answer::Redirect(format!("{far}/b")));
    other.page("/b", "<p>b");
    let pages = format!(
        "<urlset><url><loc>{base}/a</loc></url><url><loc>{base}/moved</loc></url><url><loc>{far}/b</loc></url><url><loc>file:///etc/passwd</loc></url></urlset>"
    );
    site.sitemap("/sitemap.xml", pages);
    let with = |hosts: &[&str]| {
        let sitemap = SitemapSpec {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ..sitemap(&base)
        };
        spec(SourceKind::Http(HttpSpec {
            sitemap: Some(sitemap),
            credentials: HttpCredentials {
                bearer: Some(Secret::new("t0ken")),
                ..HttpCredentials::default()
            },
            allow_private: true,
            ..HttpSpec::default()
        }))
    };
    let sink = Sink::default();
    let listing = sink.snapshot(&with(&[]), None).await.unwrap();
    assert_eq!(documents(&listing), [format!("{base}/a")]);
    let reason = skipped(&listing, "URLs of other hosts");
    assert!(
        reason.contains("127.0.0.1") && reason.contains("http.sitemap.hosts"),
        "{reason}"
    );
    let reason = skipped(&listing, &format!("{base}/moved"));
    assert!(
        reason.contains("redirects to 127.0.0.1, another host"),
        "{reason}"
    );
    skipped(&listing, "entries that are no URL with http:// or https://");
    assert!(other.asked().is_empty());
    assert!(
        site.asked()
            .iter()
            .all(|seen| seen.token.as_deref() == Some("Bearer t0ken"))
    );

    let listing = sink.snapshot(&with(&["127.0.0.1"]), None).await.unwrap();
    assert_eq!(listing.documents.len(), 3);
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|seen| seen.token.is_none()));
}

#[tokio::test]
async fn inside_addresses_that_a_sitemap_lists_are_refused() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.page("/a", "<p>a");
    let pages = format!(
        "<urlset><url><loc>{base}/a</loc></url><url><loc>http://169.254.169.254/latest/meta-data/</loc></url></urlset>"
    );
    site.sitemap("/sitemap.xml", pages);
    let named = SitemapSpec {
        hosts: vec!["169.254.169.254".into()],
        ..sitemap(&base)
    };
    let listing = Sink::default()
        .snapshot(&source(named.clone()), None)
        .await
        .unwrap();
    let reason = skipped(&listing, "http://169.254.169.254/latest/meta-data/");
    assert!(reason.contains("link-local"), "{reason}");

    let mut closed = source(named);
    let SourceKind::Http(http) = &mut closed.kind else {
        panic!("http")
    };
    http.allow_private = false;
    site.asked();
    let error = Sink::default().snapshot(&closed, None).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn sitemaps_that_are_none_or_too_much_fail_the_source_with_the_way_out() {
    let (site, address) = Site::start().await;
    let base = format!("http://{address}");
    site.page("/a", "<p>a");
    site.sitemap("/sitemap.xml", "<html><body>Sign in</body></html>");
    let error = refused(sitemap(&base)).await;
    assert!(error.contains("begins with <html>"), "{error}");

    site.set("/sitemap.xml", Answer::Status(StatusCode::NOT_FOUND));
    let error = refused(sitemap(&base)).await;
    assert!(error.contains("answered 404"), "{error}");

    site.sitemap("/sitemap.xml", urlset(&base, &[("/a", ""), ("/b", "")]));
    let few = SitemapSpec {
        max_pages: 1,
        ..sitemap(&base)
    };
    let error = refused(few).await;
    for part in [
        "http.sitemap.maxPages: more than 1 pages match",
        "http.sitemap.include",
    ] {
        assert!(error.contains(part), "{error}");
    }

    for (url, reason) in [
        ("ftp://x/", "\"ftp\" is not fetched"),
        ("http://u:p4ss@x/", "holds credentials"),
    ] {
        let odd = SitemapSpec {
            urls: vec![url.to_owned()],
            ..sitemap(&base)
        };
        let error = refused(odd).await;
        assert!(
            error.contains("http.sitemap.urls: ") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains("p4ss"), "{error}");
    }

    let small = SourceSpec {
        limits: Limits {
            max_document_bytes: 10,
            ..Limits::default()
        },
        ..source(sitemap(&base))
    };
    site.page("/b", "<p>more than ten bytes");
    let listing = Sink::default().snapshot(&small, None).await.unwrap();
    assert_eq!(documents(&listing), [format!("{base}/a")]);
    assert!(skipped(&listing, &format!("{base}/b")).contains("more than the 10 bytes"));
}
