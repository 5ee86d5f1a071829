//! Keys and certificates, made anew for each control plane.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Result;

pub(crate) const CA: &str = "ca.crt";
pub(crate) const SERVER: (&str, &str) = ("server.crt", "server.key");
pub(crate) const ADMIN: (&str, &str) = ("admin.crt", "admin.key");
/// Public and private, for service accounts' tokens.
pub(crate) const TOKENS: (&str, &str) = ("tokens.pub", "tokens.key");

/// Writes them all to `dir`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let authority = authority()?;
    std::fs::write(dir.join(CA), authority.pem())?;

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    named(&mut server, "kube-apiserver");
    issue(dir, SERVER, &server, &authority)?;

    let mut admin = CertificateParams::default();
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    named(&mut admin, "admin");
    let groups = DnType::OrganizationName;
    admin.distinguished_name.push(groups, "system:masters");
    issue(dir, ADMIN, &admin, &authority)?;

    let tokens = KeyPair::generate()?;
    std::fs::write(dir.join(TOKENS.0), tokens.public_key_pem())?;
    std::fs::write(dir.join(TOKENS.1), tokens.serialize_pem())?;
    Ok(())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    named(&mut params, "loci-testbed");
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn named(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

fn issue(
    dir: &Path,
    (certificate_file, key_file): (&str, &str),
    params: &CertificateParams,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    std::fs::write(dir.join(certificate_file), certificate.pem())?;
    std::fs::write(dir.join(key_file), key.serialize_pem())?;
    Ok(())
}
