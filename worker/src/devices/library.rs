//! CUDA's libraries that a build with CUDA loads at run time beside the driver.

use serde::Serialize;

use super::Version;

/// A library of CUDA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Library {
    /// What NVIDIA calls it.
    pub name: &'static str,
    /// Its version; none when it is not here, or does not tell.
    pub version: Option<Version>,
    /// Whether it compiles the kernels: nothing can be computed without it, nor by a driver that is older than it.
    pub compiles: bool,
}

/// `MAJOR_VERSION` and `MINOR_VERSION` of CUDA's `library_types.h`.
const PROPERTIES: [i32; 2] = [0, 1];

/// The libraries as they would be loaded.
pub(super) fn libraries() -> Vec<Library> {
    vec![
        Library {
            name: "NVRTC",
            version: nvrtc(),
            compiles: true,
        },
        Library {
            name: "cuBLAS",
            version: cublas(),
            compiles: false,
        },
    ]
}

fn nvrtc() -> Option<Version> {
    let library = open("nvrtc")?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: nvrtcVersion has this type in all versions of NVRTC, and writes two numbers.
    let code = unsafe {
        let version =
            library.get::<unsafe extern "C" fn(*mut i32, *mut i32) -> i32>("nvrtcVersion");
        version.ok()?(&mut major, &mut minor)
    };
    (code == 0).then(|| Version::of(major, minor)).flatten()
}

fn cublas() -> Option<Version> {
    let library = open("cublas")?;
    let [major, minor] = PROPERTIES.map(|which| {
        let mut value = 0;
        // SAFETY: cublasGetProperty has this type since it is there, and writes a number.
        let code = unsafe {
            let property =
                library.get::<unsafe extern "C" fn(i32, *mut i32) -> i32>("cublasGetProperty");
            property.ok()?(which, &mut value)
        };
        (code == 0).then_some(value)
    });
    Version::of(major?, minor?)
}

/// The library that `cudarc` would load by this name. It stays: computing wants it too, and libraries of CUDA are not made
/// to be taken out of a process.
fn open(name: &str) -> Option<&'static libloading::Library> {
    let names = cudarc::get_lib_name_candidates(name);
    // SAFETY: libraries of NVIDIA, looked for by their names; loading one has no other effect.
    let opened = names
        .iter()
        .find_map(|file| unsafe { libloading::Library::new(file) }.ok());
    opened.map(|library| &*Box::leak(Box::new(library)))
}
