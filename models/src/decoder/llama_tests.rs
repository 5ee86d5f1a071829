use super::*;
use crate::decoder::plain::{self, Plain};
use crate::decoder::testing::{self, config};

fn llama(tied: bool) -> Llama {
    testing::llama(tied, &Device::flex())
}

fn cache(sequences: usize, room: usize) -> Cache {
    Cache::new(&config(true), sequences, room, &Device::flex())
}

fn ids(count: usize, seed: usize) -> Vec<u32> {
    (0..count)
        .map(|i| ((i * i + seed * 17) % 50) as u32)
        .collect()
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() < 2e-4, "element {i}: {g} against {w}");
    }
}

impl Llama {
    /// [`Llama::forward`] by no adapter.
    fn continued(&self, ids: &[u32], new: &[usize], cache: &mut Cache) -> Tensor<2> {
        self.forward(ids, new, &Routes::default(), cache)
    }

    /// [`Llama::forward`] of whole sequences in burn's own operations, without a cache.
    fn by_definition(&self, ids: &[u32], lengths: &[usize]) -> Tensor<2> {
        let positions = lengths.iter().flat_map(|&length| 0..length);
        let rotation = self.rope.rotation(positions);
        let mut x = self.embed(ids);
        for layer in &self.layers {
            let project = |part, x| layer.linear(part).forward::<Plain>(x);
            x = layer.forward::<Plain>(x, &rotation, project, |q, k, v| {
                plain::attend(q, k, v, self.size, lengths)
            });
        }
        Plain::normalize(x, &self.norm)
    }
}

#[test]
fn kernels_compute_the_definition() {
    for tied in [true, false] {
        let llama = llama(tied);
        // Beyond the blocks of the attention, and few enough for the products of few rows.
        for count in [1, 3, 8, 9, 64, 65, 150] {
            let ids = ids(count, 1);
            let want = llama.by_definition(&ids, &[count]);
            let got = llama.continued(&ids, &[count], &mut cache(1, count));
            assert_close(&values(got.clone()), &values(want.clone()));
            let weight = match &llama.head {
                Some(head) => head.weight.clone(),
                None => llama.words.clone().transpose(),
            };
            let want = Plain::product(want, &weight);
            assert_close(&values(llama.logits(got)), &values(want));
        }
    }
}

#[test]
fn steps_over_a_cache_give_what_the_whole_gives() {
    let llama = llama(true);
    let ids = ids(150, 2);
    let whole = values(llama.continued(&ids, &[150], &mut cache(1, 150)));
    for steps in [vec![1; 150], vec![5, 1, 64, 1, 70, 9], vec![149, 1]] {
        // Room for two tokens only, so that the cache has to grow.
        let mut cache = cache(1, 2);
        let (mut rest, mut got) = (ids.as_slice(), Vec::new());
        for step in steps {
            let (now, further) = rest.split_at(step);
            got.extend(values(llama.continued(now, &[step], &mut cache)));
            rest = further;
        }
        assert!(rest.is_empty());
        assert_close(&got, &whole);
    }
}

#[test]
fn sequences_together_are_each_as_alone() {
    let llama = llama(false);
    let texts = [ids(7, 3), ids(70, 4), ids(1, 5), ids(12, 6)];
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    let packed = texts.concat();
    let together = values(llama.by_definition(&packed, &lengths));
    let mut all = cache(4, 3);
    let got = values(llama.continued(&packed, &lengths, &mut all));
    assert_close(&got, &together);
    // One step further for some of them, then for the others.
    let new = [2, 0, 1, 0];
    let first = values(llama.continued(&[4, 5, 6], &new, &mut all));
    let second = values(llama.continued(&[7, 8], &[0, 1, 0, 1], &mut all));
    let further: [&[u32]; 4] = [&[4, 5], &[7], &[6], &[8]];
    let stepped = [&first[..40], &second[..20], &first[40..], &second[20..]];
    for ((text, further), got) in texts.iter().zip(further).zip(stepped) {
        let alone = [text.as_slice(), further].concat();
        let want = values(llama.continued(&alone, &[alone.len()], &mut cache(1, 9)));
        assert_close(got, &want[text.len() * 20..]);
    }
}

#[test]
fn a_fork_continues_each_sequence_as_often_as_asked() {
    let llama = llama(true);
    let texts = [ids(5, 7), ids(9, 8)];
    let mut both = cache(2, 9);
    llama.continued(&texts.concat(), &[5, 9], &mut both);
    let mut fork = both.fork(&[1, 0, 1]);
    let got = values(llama.continued(&[1, 2, 2, 3], &[1, 2, 1], &mut fork));
    let cases: [(usize, &[u32]); 3] = [(1, &[1]), (0, &[2, 2]), (1, &[3])];
    let mut rest = got.as_slice();
    for (text, further) in cases {
        let alone = [texts[text].as_slice(), further].concat();
        let want = values(llama.continued(&alone, &[alone.len()], &mut cache(1, 20)));
        let (own, others) = rest.split_at(further.len() * 20);
        assert_close(own, &want[texts[text].len() * 20..]);
        rest = others;
    }
}

#[test]
fn layers_are_named_as_adapters_name_them() {
    let llama = llama(true);
    let names: Vec<&str> = llama.linears().map(|linear| linear.name.as_str()).collect();
    assert_eq!(names.len(), 21);
    assert!(names.contains(&"model.layers.2.self_attn.v_proj"));
    assert_eq!(llama.linears().next().unwrap().weight.dims(), [20, 24]);
}
