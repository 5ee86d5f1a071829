"""What the suite's cases are made of. Nothing here stands in training_words.py."""

FRAMES = (
    "Hi there! {plan} {problem} {scope}",
    "Hi, {name} from the office. {scope} {problem} {plan}",
    "Voicemail, 8:15: \"{problem} {scope} {plan}\"",
    "Voicemail: \"{name} here. {plan} {scope} {problem} {extra}\"",
    "To whoever reads this: {problem} {extra} {plan} {scope}",
    "{extra} {plan} {scope} {problem}",
    "{scope} {extra} {problem} {plan}",
    "Form 7. Customer level: {Plan}. Text: {problem} {scope} {extra}",
    "Form 7. Text: {scope} {problem} Customer level: {Plan}.",
    "[{Plan}] {problem} {extra} {scope}",
    "Forwarded by the sales desk, {Plan} contract: {problem} {scope}",
    "Email of {name}, {Plan} contract.\n\n{extra} {problem} {scope}",
    "{problem}\n{scope}\n{plan}\n\nBest, {name}",
    "Visitor at the counter. {plan} {problem} {scope} {extra}",
)

SUBJECTS = {
    "payments": (
        ("the vouchers", True),
        ("paying by card", False),
        ("the direct debit", False),
        ("the money transfer to our bank", False),
        ("invoices", True),
    ),
    "shipping": (
        ("the address labels for parcels", True),
        ("the parcel collection", False),
        ("express delivery", False),
        ("the packing slips", True),
        ("tracking of deliveries", False),
    ),
    "access": (
        ("the sign-in", False),
        ("the two-step codes", True),
        ("the manager's login", False),
        ("new user accounts", True),
        ("the password page", False),
    ),
    "devices": (
        ("the hand scanner", False),
        ("the touch screen", False),
        ("the till printer", False),
        ("the drawer under the till", False),
        ("the tablet on the counter", False),
    ),
    "website": (
        ("the web shop", False),
        ("the product photos on our site", True),
        ("the newsletter form", False),
        ("the menu of our home page", False),
        ("the site search", False),
    ),
}

STOPPED = (
    "{S} no longer {works} at all.",
    "{S} {is} down.",
    "Since the update {s} {has} stopped completely.",
    "Every attempt with {s} fails.",
    "{S} cannot be used any more.",
    "There is a total outage of {s}.",
    "{S} {has} given up, nothing goes through.",
    "With {s} nothing works since noon.",
)

HAMPERED = (
    "{S} {works}, only slowly.",
    "{S} sometimes {fails}, but a second attempt helps.",
    "There are hiccups with {s}, and we have a workaround.",
    "{S} {is} slow and jerky, but still usable.",
    "With {s} we need two or three tries, then it works.",
    "{S} {is} unreliable today, so we do some of it by hand.",
    "We have to wait long for {s}, though {it} {goes} through.",
    "{S} {is} slower than usual; we manage with a detour.",
)

QUESTION = (
    "How can I learn more about {s}?",
    "A small question: can we choose another name for {s}?",
    "Is there a video that shows how {s} {works}?",
    "It would be nice to have {s} in green.",
    "Could someone explain {s} to a beginner?",
    "Please tell me where {s} {is} described.",
    "What does it cost to add {s} to our contract?",
    "Everything works; I only want to know more about {s}.",
)

DANGER = {
    "payments": (
        "Somebody is stealing from our payout: the money went to a stranger.",
        "There is fraud with our card payments, a thief pays himself.",
        "A fraudster sends out invoices in our name.",
        "Money is being stolen through our vouchers.",
    ),
    "shipping": (
        "A delivery is smoking and smells of burning.",
        "The driver was injured when a parcel burst open.",
        "A stranger prints our parcel labels with private addresses.",
        "A parcel leaks something that hurts the eyes.",
    ),
    "access": (
        "A hacker has got into our user accounts.",
        "Someone stole the manager's password and has logged in with it.",
        "Login data of our staff has leaked to strangers.",
        "A thief signs in with our codes and reads private messages.",
    ),
    "devices": (
        "The hand scanner is smoking and smells burnt.",
        "The touch screen gave a colleague an electric shock.",
        "Flames came out of the till printer.",
        "Somebody was injured by the drawer under the till.",
    ),
    "website": (
        "Our web shop shows strangers the private data of buyers.",
        "Hackers have taken over our home page.",
        "The newsletter form leaks the addresses of our readers.",
        "The site search shows strangers private letters.",
    ),
}

SCOPES = {
    "one": (
        "It is limited to {town}.",
        "We see it at one branch only.",
        "A single shop has it, {town}.",
        "The trouble is in our {town} shop alone.",
    ),
    "some": (
        "Four of our shops have it, the rest do not.",
        "Some branches are affected, others are not.",
        "We see it in {town} and {town2}, the other shops are fine.",
        "A handful of our shops report it.",
    ),
    "all": (
        "Every single shop has it.",
        "All of our branches are hit.",
        "It hits the entire chain.",
        "It is so in all the shops.",
    ),
}
CALM_SCOPES = {
    "one": ("I ask for one shop, {town}.", "It is meant for a single branch."),
    "some": ("I ask for three of our shops.", "It is meant for some of our branches."),
    "all": ("I ask for all of our shops.", "It is meant for the entire chain."),
}

PLANS = (
    "We have the {Plan} plan.",
    "Our contract is {Plan}.",
    "We are with you on {Plan}.",
    "You have us down as {Plan}.",
)

EXTRAS = (
    "Answer as soon as you can, this is a catastrophe!",
    "We are closed on Mondays.",
    "There is no rush.",
    "I am at my desk until four.",
    "We have been waiting for ages!",
    "Whenever you have time.",
    "The owner is very angry.",
    "We moved here last spring.",
)

TOWNS = ("Marrow Bay", "Northby", "Oakham Mills", "Pellworth", "Quarry Hill", "Rossing")
NAMES = ("Karim", "Lotte", "Mirko", "Nadia", "Oskar", "Paula", "Quentin", "Rosa")
