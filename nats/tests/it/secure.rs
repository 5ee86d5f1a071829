//! Servers that prove who they are by TLS, and users that prove it by NKeys and JWTs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loci_bus::{BusError, Dispatcher, Priority};
use loci_nats::{NatsBus, NatsOptions, Server};
use loci_testbed::Nats;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use serde_json::{Value, json};

use crate::contract::item;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An authority of this name, and a server's certificate that it signed.
    fn authority(&self, name: &str) -> (PathBuf, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let of_server = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let server = params.signed_by(&of_server, &authority).unwrap();
        let certificate = self.put(&format!("{name}.crt"), &server.pem());
        let key = self.put(&format!("{name}.key"), &of_server.serialize_pem());
        let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        (self.put(&format!("{name}.ca"), &authority.pem()), tls)
    }
}

/// Whether who connects so can publish.
async fn publish(options: NatsOptions) -> Result<(), BusError> {
    until_published(&NatsBus::connect(options).await.unwrap(), "a").await
}

async fn until_published(bus: &NatsBus, id: &str) -> Result<(), BusError> {
    let started = std::time::Instant::now();
    loop {
        match bus.publish(item(id, Priority::P1)).await {
            Err(error) if started.elapsed() > Duration::from_secs(6) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(_) => return Ok(()),
        }
    }
}

fn options(server: &Nats) -> NatsOptions {
    NatsOptions::new(server.url(), "loci-test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_the_authority_that_signed_its_certificate_and_by_no_other() {
    let files = Files::new();
    let (ca, tls) = files.authority("ours");
    let (other, _) = files.authority("theirs");
    let server = Nats::with(&tls);
    let with = |ca: &Path| NatsOptions {
        ca: Some(ca.to_owned()),
        ..options(&server)
    };
    publish(with(&ca)).await.unwrap();
    let refused = publish(with(&other)).await.unwrap_err().to_string();
    // The client tells no more of it than that.
    assert!(refused.contains("client error"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_known_by_its_nkey() {
    let (files, user, other) = (Files::new(), KeyPair::new_user(), KeyPair::new_user());
    let server = Nats::with(&format!(
        "authorization {{ users: [{{nkey: {}}}] }}",
        user.public_key()
    ));
    let with = |name: &str, key: &KeyPair| NatsOptions {
        nkey: Some(files.put(name, &format!("{}\n", key.seed().unwrap()))),
        ..options(&server)
    };
    publish(with("ours", &user)).await.unwrap();
    let refused = publish(with("theirs", &other))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.to_lowercase().contains("authorization"),
        "{refused}"
    );
    let nobody = publish(options(&server)).await.unwrap_err().to_string();
    assert!(nobody.to_lowercase().contains("authorization"), "{nobody}");
}

/// As when a mounted Secret changes: once in the file that names the server, once in that with the NKey.
#[tokio::test(flavor = "multi_thread")]
async fn changed_credentials_are_taken_up_by_who_runs() {
    let files = Files::new();
    let keys = [KeyPair::new_user(), KeyPair::new_user()];
    let users = |n: usize| {
        let key = keys[n].public_key();
        format!("authorization {{ users: [{{user: loci, password: p{n}}}, {{nkey: {key}}}] }}")
    };
    let mut server = Nats::with(&users(0));
    let put = |n: usize, host: &str| {
        let url = format!("nats://loci:p{n}@{host}\n");
        let seed = keys[n].seed().unwrap();
        (files.put("url", &url), files.put("nkey", &seed))
    };
    let host = server.url().replace("nats://", "");
    let (url, nkey) = put(0, &host);
    let by_url = NatsOptions::of(Server::File(url), "loci-test");
    let by_nkey = NatsOptions {
        nkey: Some(nkey),
        ..options(&server)
    };
    let connect = async |options| NatsBus::connect(options).await.unwrap();
    let all = [connect(by_url).await, connect(by_nkey).await];
    for bus in &all {
        until_published(bus, "before").await.unwrap();
    }
    server.kill();
    server.configure(&users(1));
    server.start_again();
    for bus in &all {
        let refused = until_published(bus, "refused").await.unwrap_err();
        assert!(refused.to_string().contains("authorization"), "{refused}");
    }
    put(1, &host);
    for bus in &all {
        until_published(bus, "after").await.unwrap();
    }
}

/// What `signer` says of `subject`, as NATS writes JWTs.
fn jwt(signer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"}).to_string();
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": signer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats,
    });
    let text = format!(
        "{}.{}",
        base64url(header.as_bytes()),
        base64url(claims.to_string().as_bytes())
    );
    let signature = signer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64url(&signature))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(*three.get(i).unwrap_or(&0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for i in 0..=three.len() {
            text.push(DIGITS[((bits >> (18 - 6 * i)) & 63) as usize] as char);
        }
    }
    text
}

fn account(jetstream: bool) -> Value {
    let store = if jetstream { -1 } else { 0 };
    json!({
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": store, "disk_storage": store, "streams": store, "consumer": store,
        },
        "default_permissions": {"pub": {}, "sub": {}}, "type": "account", "version": 2,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_known_by_the_jwt_that_its_account_signed() {
    let files = Files::new();
    let (operator, system, ours) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
    );
    let of_operator = jwt(
        &operator,
        &operator,
        json!({"type": "operator", "version": 2}),
    );
    let (of_system, of_ours) = (
        jwt(&operator, &system, account(false)),
        jwt(&operator, &ours, account(true)),
    );
    let server = Nats::with(&format!(
        "operator: {of_operator}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{ {system}: {of_system}, {ours}: {of_ours} }}",
        system = system.public_key(),
        ours = ours.public_key(),
    ));
    let with = |name: &str, account: &KeyPair| {
        let user = KeyPair::new_user();
        let claims = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
        let (jwt, seed) = (jwt(account, &user, claims), user.seed().unwrap());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        NatsOptions {
            credentials: Some(files.put(name, &text)),
            ..options(&server)
        }
    };
    publish(with("ours.creds", &ours)).await.unwrap();
    let other = KeyPair::new_account();
    let refused = publish(with("theirs.creds", &other))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.to_lowercase().contains("authorization"),
        "{refused}"
    );
}
