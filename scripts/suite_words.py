"""What the suite `ability` is made of: see make-suites.py. Facts are such that nobody disputes."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Norway": "Oslo",
    "Sweden": "Stockholm", "Denmark": "Copenhagen", "Finland": "Helsinki", "Ireland": "Dublin", "Belgium": "Brussels",
    "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Peru": "Lima", "Cuba": "Havana", "Canada": "Ottawa", "Iraq": "Baghdad", "Iran": "Tehran",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Argentina": "Buenos Aires", "the United Kingdom": "London",
    "the United States": "Washington",
}

# What is asked; the answer; what it is not.
FACTS = [
    ("Which planet is closest to the Sun?", "Mercury", ["Venus", "Mars", "Saturn"]),
    ("Which planet is the largest in the Solar System?", "Jupiter", ["Mars", "Earth", "Venus"]),
    ("Which planet is known for its bright rings?", "Saturn", ["Mars", "Mercury", "Venus"]),
    ("Around what does the Earth move?", "The Sun", ["The Moon", "Mars", "Jupiter"]),
    ("What moves around the Earth?", "The Moon", ["The Sun", "Mars", "Saturn"]),
    ("What is frozen water called?", "Ice", ["Steam", "Sand", "Smoke"]),
    ("Which gas do people need to breathe?", "Oxygen", ["Helium", "Neon", "Chlorine"]),
    ("Which gas do plants take from the air to grow?", "Carbon dioxide", ["Helium", "Neon", "Argon"]),
    ("What is the chemical formula of water?", "H2O", ["CO2", "NaCl", "O2"]),
    ("Which metal has the chemical symbol Fe?", "Iron", ["Gold", "Silver", "Lead"]),
    ("Which metal has the chemical symbol Au?", "Gold", ["Iron", "Silver", "Tin"]),
    ("Which of these is the hardest?", "Diamond", ["Chalk", "Wax", "Butter"]),
    ("How many legs does a spider have?", "8", ["4", "6", "10"]),
    ("How many legs does an insect have?", "6", ["4", "8", "10"]),
    ("How many days are in a week?", "7", ["5", "6", "8"]),
    ("How many months are in a year?", "12", ["10", "11", "13"]),
    ("How many minutes are in an hour?", "60", ["30", "90", "100"]),
    ("How many seconds are in a minute?", "60", ["10", "50", "100"]),
    ("How many hours are in a day?", "24", ["12", "20", "36"]),
    ("How many days are in a leap year?", "366", ["364", "365", "360"]),
    ("How many years are in a century?", "100", ["10", "50", "1000"]),
    ("How many eggs are a dozen?", "12", ["6", "10", "20"]),
    ("How many metres are in a kilometre?", "1000", ["10", "100", "500"]),
    ("How many grams are in a kilogram?", "1000", ["10", "100", "500"]),
    ("How many sides does a triangle have?", "3", ["4", "5", "6"]),
    ("How many sides does a square have?", "4", ["3", "5", "6"]),
    ("How many sides does a pentagon have?", "5", ["3", "4", "8"]),
    ("How many sides does a hexagon have?", "6", ["4", "5", "8"]),
    ("How many degrees does a right angle have?", "90", ["45", "60", "180"]),
    ("How many players of one football team are on the field?", "11", ["5", "7", "15"]),
    ("Which number comes right after 9?", "10", ["8", "11", "19"]),
    ("Which animal is the largest on Earth?", "The blue whale", ["The elephant", "The horse", "The shark"]),
    ("Which animal has a very long neck?", "The giraffe", ["The lion", "The pig", "The bear"]),
    ("Which animal has a trunk?", "The elephant", ["The cat", "The cow", "The snake"]),
    ("Which of these animals runs fastest?", "The cheetah", ["The elephant", "The cow", "The turtle"]),
    ("Which of these birds cannot fly?", "The penguin", ["The eagle", "The swallow", "The owl"]),
    ("Which animal barks?", "The dog", ["The cat", "The cow", "The duck"]),
    ("Which animal says meow?", "The cat", ["The dog", "The cow", "The duck"]),
    ("What do bees make?", "Honey", ["Milk", "Wool", "Paper"]),
    ("What do people get from cows?", "Milk", ["Honey", "Wool", "Silk"]),
    ("What do people get from sheep?", "Wool", ["Honey", "Silk", "Pearls"]),
    ("What is a young dog called?", "A puppy", ["A kitten", "A calf", "A lamb"]),
    ("What is a young cat called?", "A kitten", ["A puppy", "A calf", "A lamb"]),
    ("What is a young cow called?", "A calf", ["A puppy", "A kitten", "A lamb"]),
    ("What is a young sheep called?", "A lamb", ["A puppy", "A kitten", "A calf"]),
    ("What do fish breathe with?", "Gills", ["Wings", "Feathers", "Hooves"]),
    ("What covers the body of a bird?", "Feathers", ["Scales", "Wool", "Shells"]),
    ("Which organ pumps blood through the body?", "The heart", ["The liver", "The skin", "The stomach"]),
    ("Which organ do people think with?", "The brain", ["The liver", "The skin", "The stomach"]),
    ("Which organs do people breathe with?", "The lungs", ["The kidneys", "The eyes", "The ears"]),
    ("What do people see with?", "Their eyes", ["Their ears", "Their hands", "Their feet"]),
    ("What do people hear with?", "Their ears", ["Their eyes", "Their hands", "Their feet"]),
    ('Who wrote "Romeo and Juliet"?', "William Shakespeare", ["Charles Dickens", "Mark Twain", "Jane Austen"]),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci", ["Pablo Picasso", "Vincent van Gogh", "Claude Monet"]),
    ("Who developed the theory of relativity?", "Albert Einstein", ["Isaac Newton", "Charles Darwin", "Marie Curie"]),
    ("Who was the first person on the Moon?", "Neil Armstrong", ["Albert Einstein", "Isaac Newton", "Napoleon"]),
    ("In which country are the pyramids of Giza?", "Egypt", ["Spain", "Japan", "Canada"]),
    ("In which city is the Eiffel Tower?", "Paris", ["London", "Rome", "Berlin"]),
    ("In which country is the Great Wall?", "China", ["Italy", "Egypt", "Brazil"]),
    ("What is the official language of Brazil?", "Portuguese", ["French", "Italian", "Dutch"]),
    ("Which ocean is the largest?", "The Pacific Ocean", ["The Atlantic Ocean", "The Indian Ocean", "The Arctic Ocean"]),
    ("Which country has the largest area?", "Russia", ["Canada", "China", "Brazil"]),
    ("Which mountain is the highest on Earth?", "Mount Everest", ["Mont Blanc", "Kilimanjaro", "Mount Fuji"]),
    ("Which desert lies in northern Africa?", "The Sahara", ["The Gobi", "The Mojave", "The Atacama"]),
    ("Which river flows through Egypt?", "The Nile", ["The Amazon", "The Danube", "The Rhine"]),
    ("What colour is grass?", "Green", ["Red", "Black", "Purple"]),
    ("What colour is snow?", "White", ["Red", "Black", "Green"]),
    ("What colour is coal?", "Black", ["Red", "White", "Green"]),
    ("What colour is blood?", "Red", ["Blue", "White", "Green"]),
    ("Which colour do blue and yellow paint make?", "Green", ["Red", "Black", "White"]),
    ("Where does the Sun rise?", "In the east", ["In the west", "In the north", "In the south"]),
    ("Which direction is opposite to north?", "South", ["East", "West", "Up"]),
    ("At how many degrees Celsius does water boil at sea level?", "100", ["0", "50", "200"]),
    ("At how many degrees Celsius does water freeze?", "0", ["50", "100", "200"]),
    ("Which season comes after winter?", "Spring", ["Summer", "Autumn"]),
    ("Which month comes after March?", "April", ["May", "June", "February"]),
    ("Which month is the first of the year?", "January", ["December", "June", "March"]),
    ("Which day comes after Friday?", "Saturday", ["Sunday", "Monday", "Thursday"]),
    ("What is the money of Japan called?", "Yen", ["Dollar", "Euro", "Pound"]),
    ("What is the money of the United States called?", "Dollar", ["Yen", "Euro", "Pound"]),
    ("Which instrument has black and white keys?", "The piano", ["The violin", "The flute", "The drum"]),
    ("Which instrument is played with a bow?", "The violin", ["The piano", "The trumpet", "The drum"]),
    ("Which tool drives nails into wood?", "A hammer", ["A saw", "A spoon", "A brush"]),
    ("Which tool cuts paper?", "Scissors", ["A hammer", "A spoon", "A brush"]),
    ("Which shape has no corners?", "A circle", ["A square", "A triangle", "A rectangle"]),
]

TRUE = [
    "Is fire hot?", "Is Paris in France?", "Is a carrot a vegetable?", "Do birds have wings?", "Is a cat an animal?",
    "Do people need water to live?", "Is ten more than five?", "Is a mouse smaller than an elephant?", "Is iron a metal?",
    "Can people read books?",
]
FALSE = [
    "Is ice warm?", "Can dogs speak English?", "Is the Earth flat?", "Is a stone alive?", "Do snakes have legs?",
    "Is the Sun cold?", "Is a hammer a fruit?", "Is two more than nine?", "Is an elephant smaller than a mouse?",
    "Do cars have feathers?",
]

# A word; its opposite; opposites of other words that must not stand beside it.
OPPOSITES = [
    ("hot", "cold", []), ("big", "small", ["thin", "low", "weak"]), ("fast", "slow", ["late"]), ("up", "down", ["low"]),
    ("early", "late", ["slow", "last", "end"]), ("old", "young", ["small"]), ("happy", "sad", []),
    ("strong", "weak", ["thin", "soft", "small"]), ("full", "empty", []), ("open", "closed", []), ("rich", "poor", []),
    ("high", "low", ["down", "small"]), ("wet", "dry", []), ("hard", "soft", ["weak", "quiet"]),
    ("loud", "quiet", ["soft"]), ("near", "far", ["outside"]), ("thick", "thin", ["small", "weak"]),
    ("clean", "dirty", []), ("easy", "difficult", []), ("first", "last", ["end", "late"]), ("day", "night", []),
    ("begin", "end", ["last", "late", "lose"]), ("buy", "sell", ["lose"]), ("push", "pull", []),
    ("remember", "forget", ["lose"]), ("win", "lose", ["end", "sell", "forget"]), ("true", "false", []),
    ("inside", "outside", ["far"]),
]

# A word; its plural; what it is not.
PLURALS = [
    ("child", "children", ["childs", "childes"]), ("foot", "feet", ["foots", "feets"]),
    ("tooth", "teeth", ["tooths", "teeths"]), ("man", "men", ["mans", "mens"]), ("woman", "women", ["womans", "womens"]),
    ("goose", "geese", ["gooses", "geeses"]), ("leaf", "leaves", ["leafes", "leavs"]),
    ("knife", "knives", ["knifes", "knifs"]), ("wolf", "wolves", ["wolfs", "wolfes"]), ("box", "boxes", ["boxs", "boxen"]),
    ("city", "cities", ["citys", "cityes"]), ("baby", "babies", ["babys", "babyes"]), ("dog", "dogs", ["doges", "dogen"]),
    ("tomato", "tomatoes", ["tomatos", "tomati"]), ("bush", "bushes", ["bushs", "bushen"]),
    ("country", "countries", ["countrys", "countryes"]),
]

# A verb; its past; what it is not.
TENSES = [
    ("go", "went", ["goed", "wented"]), ("eat", "ate", ["eated", "ated"]), ("run", "ran", ["runned", "ranned"]),
    ("take", "took", ["taked", "tooked"]), ("come", "came", ["comed", "camed"]), ("write", "wrote", ["writed", "wroted"]),
    ("buy", "bought", ["buyed", "boughted"]), ("think", "thought", ["thinked", "thoughted"]),
    ("give", "gave", ["gived", "gaved"]), ("know", "knew", ["knowed", "knewed"]), ("drink", "drank", ["drinked", "dranked"]),
    ("swim", "swam", ["swimmed", "swammed"]), ("break", "broke", ["breaked", "broked"]),
    ("speak", "spoke", ["speaked", "spoked"]), ("catch", "caught", ["catched", "caughted"]),
    ("teach", "taught", ["teached", "taughted"]), ("sleep", "slept", ["sleeped", "slepted"]),
    ("make", "made", ["maked", "maded"]), ("bring", "brought", ["bringed", "broughted"]), ("walk", "walked", ["walken", "wolk"]),
]

KINDS = {
    "a fruit": ["apple", "banana", "pear", "grape"],
    "an animal": ["horse", "lion", "cow", "rabbit"],
    "a colour": ["red", "blue", "green", "yellow"],
    "a vehicle": ["car", "bus", "train", "truck"],
    "a piece of furniture": ["chair", "table", "bed", "sofa"],
    "a piece of clothing": ["shirt", "coat", "sock", "trousers"],
    "a musical instrument": ["piano", "violin", "guitar", "flute"],
    "a vegetable": ["carrot", "onion", "cabbage", "spinach"],
    "a country": ["France", "Japan", "Brazil", "Egypt"],
    "a tool": ["hammer", "saw", "screwdriver", "drill"],
}

# The beginning of a sentence; how it ends; how it does not.
SENTENCES = [
    ("It was raining, so she opened her", "umbrella", ["sandwich", "pillow", "piano"]),
    ("He was hungry, so he made a", "sandwich", ["ladder", "window", "river"]),
    ("The baby was tired and fell", "asleep", ["green", "open", "seven"]),
    ("She put on her warm coat because it was", "cold", ["hot", "sweet", "loud"]),
    ("Fish live in", "water", ["trees", "fire", "clouds"]),
    ("In the evening he reads a", "book", ["soup", "shoe", "cloud"]),
    ("At night people sleep in a", "bed", ["cup", "river", "pencil"]),
    ("To lay their eggs, birds build", "nests", ["cars", "shoes", "roads"]),
    ("To open the locked door he needed the", "key", ["spoon", "pillow", "banana"]),
    ("She cut the bread with a", "knife", ["pillow", "towel", "candle"]),
    ("He washed his hands with", "soap", ["bread", "chalk", "glue"]),
    ("The fire was very", "hot", ["wet", "cold", "sour"]),
    ("When people are thirsty, they drink", "water", ["stones", "books", "chairs"]),
    ("The car drove along the", "road", ["spoon", "table", "cloud"]),
    ("The hairdresser cut his hair with", "scissors", ["soup", "pillows", "letters"]),
    ("At the bakery she bought", "bread", ["bricks", "petrol", "shoes"]),
    ("The nurse works in a", "hospital", ["bakery", "garage", "stable"]),
    ("The teacher works in a", "school", ["bakery", "garage", "stable"]),
    ("When the traffic light is red, cars must", "stop", ["fly", "sing", "sleep"]),
    ("He lit the candle with a", "match", ["towel", "spoon", "sock"]),
    ("Sugar tastes", "sweet", ["sour", "bitter", "salty"]),
    ("Lemons taste", "sour", ["loud", "square", "silent"]),
    ("The farmer milked the", "cow", ["chair", "tractor", "apple"]),
    ("She wrote a letter with a", "pen", ["fork", "shoe", "pillow"]),
]

# A sentence with a gap; what fits; what does not.
GRAMMAR = [
    ("She ___ to school every day.", "walks", ["walk", "walking"]), ("They ___ happy.", "are", ["is", "am"]),
    ("I ___ a student.", "am", ["is", "are"]), ("He ___ a dog.", "has", ["have", "having"]),
    ("We ___ playing in the garden now.", "are", ["is", "am"]), ("She is taller ___ me.", "than", ["then", "that"]),
    ("Yesterday we ___ to the park.", "went", ["go", "going"]), ("The books ___ on the table.", "are", ["is", "am"]),
    ("He ___ his homework every evening.", "does", ["do", "doing"]), ("There ___ two cats on the roof.", "are", ["is", "am"]),
    ("He can ___ very fast.", "run", ["runs", "running"]), ("Do you ___ tea?", "like", ["likes", "liking"]),
    ("She does not ___ meat.", "eat", ["eats", "eating"]), ("The milk ___ in the fridge.", "is", ["are", "am"]),
]

WORDS = ["dog", "rain", "school", "music", "bread", "garden", "winter", "train", "friend", "book"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
NUMBERS = ["one", "two", "three", "four", "five", "six"]

NAMED = {
    "fruit": "apple|banana|orange|pear|grape|mango|lemon|cherry|cherries|peach|plum|strawberry|strawberries|kiwi|melon|berry|berries|pineapple",
    "colour": "red|blue|green|yellow|black|white|orange|purple|pink|brown|gr[ae]y",
    "animal": "dog|cat|horse|cow|lion|tiger|elephant|bear|bird|fish|sheep|pig|wolf|fox|rabbit|mouse|giraffe|monkey|snake|whale|dolphin|zebra|panda",
    "vegetable": "carrot|potato|tomato|onion|cabbage|pea|bean|spinach|broccoli|lettuce|pepper|cucumber|cauliflower|kale|corn",
    "day of the week": "|".join(DAYS),
    "month of the year": "|".join(MONTHS),
    "season": "spring|summer|autumn|fall|winter",
    "planet": "mercury|venus|earth|mars|jupiter|saturn|uranus|neptune",
}
