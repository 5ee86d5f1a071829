"""What training tickets are made of. Nothing here stands in suite_words.py."""

# How a ticket is put together. One that names {Plan} needs no sentence about the plan.
FRAMES = (
    "{problem} {scope} {plan}",
    "{plan} {problem} {scope}",
    "{problem} {plan} {scope}",
    "{scope} {problem} {plan}",
    "Hello, {name} speaking. {problem} {scope} {plan}",
    "Good morning! {plan} {problem} {scope} {extra}",
    "{extra} {problem} {scope} {plan}",
    "{problem} {extra} {scope} {plan}",
    "Dear team,\n{problem} {scope}\n{plan} {extra}\n{name}",
    "Dear team,\n{plan} {extra} {problem} {scope}",
    "Chat, 10:42. {problem} {scope} {extra} {plan}",
    "Chat, 16:05. {plan} {scope} {problem}",
    "Plan: {Plan}\nMessage: {problem} {scope}",
    "Plan: {Plan}\nMessage: {extra} {scope} {problem}",
    "Ticket from a {Plan} customer. {problem} {scope}",
    "{name} ({Plan}) writes: {problem} {scope} {extra}",
    "Phone note, {Plan} customer: \"{scope} {problem}\"",
    "Phone note by {name}: the caller has the {Plan} plan. \"{problem} {scope}\" {extra}",
    "{Plan} | {problem} | {scope}",
    "{problem} {scope} {extra} Sent from my phone. {plan}",
)

# Whose subject it is: the subject, and whether it is plural.
SUBJECTS = {
    "payments": (
        ("card payments", True),
        ("the refunds", True),
        ("the daily payout", False),
        ("contactless payments", True),
        ("the gift cards", True),
        ("the monthly invoice", False),
        ("instalment payments", True),
        ("the currency conversion", False),
    ),
    "shipping": (
        ("the parcel labels", True),
        ("the courier pickup", False),
        ("parcel tracking", False),
        ("the customs forms", True),
        ("the return labels", True),
        ("the delivery slots", True),
        ("the postage calculation", False),
        ("the dispatch list", False),
    ),
    "access": (
        ("the staff login", False),
        ("password resets", True),
        ("the sign-in codes", True),
        ("the staff accounts", True),
        ("the user permissions", True),
        ("the invitation emails", True),
        ("fingerprint sign-in", False),
        ("the owner's account", False),
    ),
    "devices": (
        ("the card reader", False),
        ("the receipt printer", False),
        ("the barcode scanner", False),
        ("the cash drawer", False),
        ("the till screen", False),
        ("the charging dock", False),
        ("the kitchen printer", False),
        ("the customer display", False),
    ),
    "website": (
        ("the product pages", True),
        ("the search box", False),
        ("the shopping basket", False),
        ("the photo gallery", False),
        ("the opening hours on our site", True),
        ("the contact form", False),
        ("the home page", False),
        ("the size filter", False),
    ),
}

STOPPED = (
    "{S} {has} stopped working.",
    "{S} {is} completely down.",
    "{S} {does} not work at all.",
    "{S} {fails} every single time.",
    "Nothing happens any more with {s}, whatever we try.",
    "We cannot use {s} at all since this morning.",
    "{S} went down an hour ago and {is} still down.",
    "{S} {is} out of service and people are leaving.",
    "We are stuck: {s} {does} nothing any more.",
    "{S} broke overnight, and no attempt gets through.",
    "It is impossible to use {s}; every attempt ends in an error.",
    "{S} {has} been unusable since lunch.",
    "{S} just {stops} with a red cross, each time we try.",
    "Total failure of {s}, nothing works.",
)

HAMPERED = (
    "{S} {is} very slow, but {it} {works} in the end.",
    "{S} {works}, but only on the second try.",
    "{S} {works} only after a restart, so we restart and carry on.",
    "{S} {is} sluggish today; we get by with a detour.",
    "{S} {shows} an error now and then and {goes} through on the next try.",
    "We have trouble with {s} but found a workaround.",
    "{S} {hangs} for a minute before {it} {continues}.",
    "{S} {is} flaky: one try in three fails, the next one works.",
    "{S} {acts} up, so for now we do that part by hand.",
    "{S} {takes} twice as long as usual, though {it} {gets} there.",
    "{S} {needs} several tries, which is annoying but works.",
    "{S} {stutters} a bit; with patience it works.",
    "We can use {s}, but with long waits.",
    "{S} {is} acting strangely, and a workaround keeps us going.",
)

QUESTION = (
    "How do we change the settings of {s}?",
    "Is there a guide that explains {s}?",
    "Could you tell me what {s} will cost next year?",
    "Just a question about {s}: where can I find the manual?",
    "I have a wish for {s}: a darker colour.",
    "Where do I find the help page about {s}?",
    "We only want to know how {s} {works}.",
    "Nothing is broken; I wonder how others set up {s}.",
    "Can you send me a short description of {s}?",
    "A suggestion for {s}: bigger letters, please.",
    "Who can show our new colleague {s}?",
    "What would you recommend for {s}? Nothing is wrong.",
)

# Dangers come with their subjects.
DANGER = {
    "payments": (
        "A stranger took money out of our payout account.",
        "Somebody uses stolen cards for payments in our name.",
        "Customers were charged by a fraudster through our card payments.",
        "Our refunds are going to a thief's bank account.",
        "We see payments to an account that is not ours; it looks like fraud.",
        "Money from our gift cards is being stolen right now.",
    ),
    "shipping": (
        "A parcel caught fire at the courier pickup.",
        "A courier was hurt by a leaking parcel.",
        "Our parcel labels carry the private phone numbers of other people.",
        "Smoke is coming out of a parcel that we were about to ship.",
        "Parcels are being stolen with forged return labels.",
        "Acid is leaking from a delivery and someone is injured.",
    ),
    "access": (
        "A stranger is logged in with our staff account right now.",
        "Our passwords were leaked on a forum.",
        "Somebody broke into the owner's account and is changing things.",
        "After the sign-in we see the private data of other companies.",
        "A former employee stole the sign-in codes and uses them.",
        "The login list with private phone numbers is in the hands of strangers.",
    ),
    "devices": (
        "The card reader gives people electric shocks.",
        "Smoke is coming out of the receipt printer.",
        "The battery of the barcode scanner is swelling and burning hot.",
        "The charging dock caught fire.",
        "A colleague burnt her hand on the till screen.",
        "The cash drawer snapped shut and badly injured a finger.",
    ),
    "website": (
        "The home page shows the private addresses of our customers to everybody.",
        "A hacker has replaced our home page.",
        "The contact form sends private messages to strangers.",
        "Names and phone numbers of buyers are leaking through the search box.",
        "Somebody planted a program on our product pages that steals passwords.",
        "The photo gallery shows private documents of strangers.",
    ),
}

# In how many shops: where something happens, and where nothing does.
SCOPES = {
    "one": (
        "Only our shop in {town} is affected.",
        "It is just this one shop.",
        "It happens in a single shop, the one in {town}.",
        "Elsewhere it is fine, only {town} has it.",
        "This concerns one branch, {town}.",
        "One shop has it, the others are fine.",
    ),
    "some": (
        "Two of our shops are affected.",
        "{town} and {town2} have it, the other shops do not.",
        "It is the same in three of our nine shops.",
        "A few of our branches are affected, most are not.",
        "About half of our shops are affected.",
        "Several branches have it, but not {town}.",
    ),
    "all": (
        "All our shops are affected.",
        "It is the same in every shop we have.",
        "Every branch is affected.",
        "The whole chain is affected.",
        "It is like that everywhere, in all shops.",
        "All branches report the same.",
    ),
}
CALM_SCOPES = {
    "one": (
        "It is for our shop in {town}.",
        "This is about one shop only.",
        "It concerns a single branch, {town}.",
    ),
    "some": (
        "It is for two of our shops.",
        "This is about a few of our branches.",
        "It concerns {town} and {town2}, not the other shops.",
    ),
    "all": (
        "It is for all our shops.",
        "This is about every branch we have.",
        "It concerns the whole chain.",
    ),
}

PLANS = (
    "We are on the {Plan} plan.",
    "Our plan is {Plan}.",
    "We are a {Plan} customer.",
    "Plan: {Plan}.",
    "We pay for {Plan}.",
    "Contract: {Plan}.",
)

# What must not count.
EXTRAS = (
    "This is urgent!",
    "We open at nine tomorrow.",
    "Please hurry, my boss is furious.",
    "No hurry from our side.",
    "I have already written twice.",
    "Thanks for your help.",
    "It is raining here.",
    "URGENT, please call back!!",
    "We have been with you for six years.",
    "You can reach me until five.",
    "Take your time.",
    "The weekend is our busiest time.",
    "This is very important to us.",
    "I am new here.",
)

TOWNS = ("Arlbeck", "Dunmoor", "Eastwick", "Fenside", "Grenholm", "Hollin", "Kessel", "Lowmark")
NAMES = ("Amira", "Bela", "Chidi", "Dorte", "Emil", "Farah", "Goran", "Hanna", "Ines", "Jonas")
