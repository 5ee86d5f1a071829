"""Numbers drawn by SplitMix64 (Steele et al., 2014), so that a seed means the same in every version of Python."""

MASK = (1 << 64) - 1


class Draws:
    def __init__(self, seed):
        self.state = seed

    def draw(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, count):
        return (self.draw() * count) >> 64

    def shuffled(self, items):
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
        return items


class Decks:
    """Draws from lists so that all of a list comes up before anything of it comes up again."""

    def __init__(self, draws):
        self.draws = draws
        self.left = {}

    def draw(self, name, items):
        if not self.left.get(name):
            self.left[name] = self.draws.shuffled(items)
        return self.left[name].pop()
