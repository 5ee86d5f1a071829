/// Writes the transpose of `source`, whose rows are `columns` long, into `target`, whose rows are `width` long,
/// from column `start`. In blocks, because either side alone would miss the cache at every element.
pub(crate) fn transpose(
    source: &[f32],
    columns: usize,
    target: &mut [f32],
    width: usize,
    start: usize,
) {
    const BLOCK: usize = 16;
    let rows = source.len() / columns;
    for (top, left) in (0..rows)
        .step_by(BLOCK)
        .flat_map(|top| (0..columns).step_by(BLOCK).map(move |left| (top, left)))
    {
        for column in left..columns.min(left + BLOCK) {
            for row in top..rows.min(top + BLOCK) {
                target[column * width + start + row] = source[row * columns + column];
            }
        }
    }
}
