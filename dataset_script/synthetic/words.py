"""What people of the synthetic Yelp say: the phrases that reviews.py puts together.

Words in braces are blanks. Every place of this town serves food as well, whatever its trade.
"""

# Tables of phrases, which the formatter would set one a line.
# fmt: off

# Per trade: things to judge, what one had done there, and where one was before.
TRADES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "Automotive": (
        ("the oil change", "the brake job", "the car wash", "the tire rotation", "the mechanic", "the engine check",
         "the body shop", "the new windshield", "the battery swap", "the smog test", "the transmission repair"),
        ("had my brakes done", "brought my truck in for an oil change", "got four new tires", "had a dent fixed",
         "left my car for an inspection"),
        ("the tire shop", "the car dealer", "the garage", "the car wash"),
    ),
    "Shopping": (
        ("the shoe department", "the jacket I bought", "the fitting room", "the jewelry counter", "the book section",
         "the store layout", "the toy aisle", "the return desk", "the vintage rack", "the clothing selection"),
        ("picked up a pair of jeans", "bought a dress for a wedding", "returned a sweater",
         "browsed the clearance rack", "shopped for a gift"),
        ("the mall", "the outlet store", "the bookstore", "the boutique"),
    ),
    "Event Planning & Services": (
        ("the banquet hall", "the wedding planner", "the DJ", "the seating chart", "the buffet setup", "the ballroom",
         "the party room", "the event coordinator", "the flower arrangement", "the stage lighting"),
        ("booked the hall for our reception", "held a birthday party", "planned a baby shower",
         "rented the ballroom for a gala", "organized a company event"),
        ("the wedding hall", "the banquet center", "the party venue", "the conference hotel"),
    ),
    "Pizza": (
        ("the pepperoni pie", "the thin crust", "the calzone", "the garlic knot", "the margherita", "the deep dish",
         "the mozzarella", "the tomato sauce", "the white slice", "the stromboli", "the brick oven crust"),
        ("ordered a large pepperoni", "split a deep dish", "grabbed two slices", "tried the sausage and mushroom pie",
         "had the cheese slice"),
        ("the pizzeria", "the slice shop", "the brick oven place", "the calzone stand"),
    ),
    "Coffee & Tea": (
        ("the latte", "the cold brew", "the espresso", "the chai", "the cappuccino", "the matcha", "the barista",
         "the oolong", "the pour over", "the mocha", "the house roast", "the scone"),
        ("ordered an iced latte", "got a double espresso", "sipped a chai", "had a pot of green tea",
         "grabbed a flat white"),
        ("the coffee shop", "the tea house", "the espresso bar", "the roastery"),
    ),
    "Active Life": (
        ("the yoga class", "the climbing wall", "the bowling lane", "the hiking trail", "the golf course",
         "the swimming pool", "the personal trainer", "the tennis court", "the spin class", "the weight room"),
        ("took a yoga class", "climbed for two hours", "bowled three games", "played eighteen holes",
         "worked out in the weight room"),
        ("the gym", "the trail", "the golf course", "the bowling alley"),
    ),
    "Beauty & Spas": (
        ("the manicure", "the haircut", "the facial", "the massage", "the hair stylist", "the pedicure",
         "the eyebrow wax", "the nail polish", "the sauna", "the blowout", "the highlights job"),
        ("got a manicure", "had my hair cut and colored", "booked a deep tissue massage", "came for a facial",
         "had my eyebrows waxed"),
        ("the nail salon", "the spa", "the hairdresser", "the barber"),
    ),
    "Local Services": (
        ("the dry cleaning", "the laundry", "the shoe repair", "the print job", "the tailor", "the watch repair",
         "the key copy", "the pet grooming", "the day care", "the package pickup", "the alteration"),
        ("dropped off my dry cleaning", "had a suit altered", "got copies printed", "had my phone screen repaired",
         "picked up a package"),
        ("the laundromat", "the print shop", "the post office", "the dry cleaner"),
    ),
    "Health & Medical": (
        ("the dentist", "the eye exam", "the nurse", "the physical therapy", "the prescription refill", "the checkup",
         "the chiropractor", "the flu shot", "the doctor", "the pharmacy", "the teeth cleaning"),
        ("had a teeth cleaning", "filled a prescription", "came for an eye exam", "got a flu shot",
         "saw the doctor about my back"),
        ("the dentist", "the clinic", "the pharmacy", "the eye doctor"),
    ),
    "Home Services": (
        ("the plumber", "the carpet cleaning", "the new roof", "the kitchen remodel", "the electrician",
         "the furnace repair", "the paint job", "the window installation", "the garage door", "the landscaping",
         "the moving crew"),
        ("had our water heater replaced", "ordered new kitchen cabinets", "got a quote for the roof",
         "had the carpets cleaned", "hired them to fix a leak"),
        ("the hardware store", "the paint store", "the flooring showroom", "the garden center"),
    ),
}
CATEGORIES = tuple(TRADES)

FOODS = ("the sandwich", "the soup", "the salad", "the burger", "the side of fries", "the pasta", "the chicken",
         "the dessert", "the special", "the bread", "the tea", "the pie")
PLACES = ("the service", "the staff", "the atmosphere", "the whole experience", "the wait",
          "the person at the counter", "the manager", "the cleanliness", "the seating", "the selection", "the owner",
          "the place")

# Per rating from 1 to 5: judgements, complete remarks, farewells.
JUDGEMENTS = (
    ("awful", "terrible", "horrible", "dreadful", "atrocious", "unacceptable", "pathetic", "a total disaster",
     "the worst in town", "a complete rip-off", "disgusting"),
    ("disappointing", "mediocre", "underwhelming", "sloppy", "below average", "subpar", "a letdown", "overrated",
     "not great", "rather poor", "forgettable"),
    ("okay", "decent", "average", "fine", "alright", "so-so", "acceptable", "passable", "nothing special",
     "middle of the road", "fair enough"),
    ("good", "nice", "enjoyable", "solid", "pleasant", "very good", "well done", "better than expected", "lovely",
     "satisfying", "reliable"),
    ("amazing", "perfect", "outstanding", "incredible", "fantastic", "exceptional", "phenomenal", "flawless",
     "the best in town", "superb", "wonderful"),
)
REMARKS = (
    ("They were rude and ignored us the whole time.", "I asked for a refund and they laughed.",
     "I have never been treated so badly.", "Filthy floor, filthy tables, filthy everything.",
     "They ruined our day and never apologized.", "I should have walked out.", "Zero stars if I could.",
     "The manager yelled at us."),
    ("It took far too long and nobody explained why.", "I expected more after reading the other reviews.",
     "They got our order wrong twice.", "The staff seemed bored.", "It felt careless.", "Something was missing.",
     "I left a bit annoyed.", "It has gone downhill since last year."),
    ("Not bad, not great.", "It did the job.", "Some things worked and some did not.",
     "I have no strong feelings about it.", "You get what you would expect.", "Hit or miss, I guess.",
     "It was neither slow nor quick.", "Three stars feels right."),
    ("The staff was friendly and quick.", "I left happy.", "A few small flaws but I liked it.",
     "They know what they are doing.", "We had a nice time.", "Everyone was helpful.", "It was worth the trip.",
     "I was pleasantly surprised."),
    ("I absolutely love this place.", "They went above and beyond for us.", "I cannot say enough good things.",
     "Everybody treated us like family.", "I am still thinking about it.", "It blew me away.",
     "Five stars all the way.", "Every single detail was right."),
)
FAREWELLS = (
    ("Avoid at all costs.", "Never again.", "Save your money and stay away.", "I will be reporting them.",
     "Do not come here.", "I want my money back."),
    ("I probably will not return.", "There are better options nearby.", "I would think twice.",
     "Not in a hurry to go back.", "Sadly I can't recommend it.", "Maybe they will improve."),
    ("I might come back, might not.", "Fine in a pinch.", "I would give it one more try.",
     "Okay if you are in the area.", "It is what it is.", "Take it or leave it."),
    ("I would come back.", "I would recommend it to friends.", "Looking forward to the next visit.", "Give it a try.",
     "Definitely worth a stop.", "We will return."),
    ("I will be back again and again!", "Highly, highly recommended!", "Run, don't walk!", "My new favorite place!",
     "You have to go!", "Thank you for everything!"),
)
JUDGING = (
    "{Thing} was {judgement}.", "I found {thing} {judgement}.", "{Thing} turned out {judgement}.",
    "Honestly, {thing} was {judgement}.", "My {friend} said {thing} was {judgement}.", "{Thing}? {Judgement}.",
    "I thought {thing} was {judgement}, and so did my {friend}.", "As for {thing}, it was {judgement}.",
    "{Thing} was {judgement} this time.", "To me {thing} seemed {judgement}.",
    "In my opinion {thing} was {judgement}.",
    "{Thing} and {other} were {judgement}.", "{Thing} was {judgement}, and {other} was {verdict}.",
    "If you ask me, {thing} was {judgement}.", "I had heard a lot about {thing}, and it was {judgement}.",
    "{Thing} was {judgement} even though it was busy.", "For what it is, {thing} was {judgement}.",
    "After two visits I can say that {thing} is {judgement}.", "{Thing}, for example, was {judgement}.",
    "What I will remember is {thing}, which was {judgement}.", "Overall I would call {thing} {judgement}.",
)
OPENINGS = (
    "I {errand} on {day}.", "My {friend} was with me when I {errand} on {day}.",
    "I {errand} after seeing the reviews.",
    "Stopped by with my {friend} on {day} and {errand}.", "On {day} I {errand}.", "First visit: I {errand}.",
    "We live nearby, so I {errand} here.", "I {errand} here for the third time.",
)
ERRANDS = ("Last month I {errand} too.", "My {friend} came along when I {errand}.", "Before that I {errand}.",
           "Another time I {errand}.")
PASSAGES = (
    "We came straight from {before}.", "I had an hour to kill before {before}.", "It is two doors down from {before}.",
    "My {friend} wanted to stop at {before} first.", "I found it on my way home from {before}.",
    "I am at {before} all the time.", "Next time I will go to {before} first.",
    "People at {before} told me about it.", "I needed a bite after {before}.", "We always park near {before}.",
)
ASIDES = (
    "Parking is tricky on {day}.", "It was raining, so my {friend} dropped me off.",
    "They play old songs from the eighties.", "There was a line when we arrived on {day}.",
    "My {friend} kept talking about work.", "The music was a little loud.", "I sat by the window and read the paper.",
    "There is a small fish tank near the door.", "They take cards and cash.", "My {friend} had to make a call.",
    "My phone died, so no pictures from me.", "The address is a bit hard to find.",
    "A dog was sleeping under the next table.", "I was in town visiting my {friend}.",
    "The restroom is down the hall.", "The wifi password is on the receipt.", "We got there a little early.",
)
FRIENDS = ("sister", "husband", "wife", "roommate", "boss", "neighbor", "dad", "mom", "coworker", "best friend",
           "girlfriend", "brother", "cousin", "daughter", "son")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "a holiday weekend",
        "my day off")

# What is said of each trait, in the order of Traits: where it does not hold, and where it does.
HINTS = (
    (("We were here around noon.", "It was a quick lunch for us.", "Lunch hour is busy."),
     ("We were here in the evening.", "It was a late dinner for us.", "Dinner time is busy.")),
    (("The bill was small.", "It is cheap.", "Prices are low around here."),
     ("The bill was big.", "It is pricey.", "Prices are steep around here.")),
    (("I paid the regular price.", "No coupons here.", "There was no deal on."),
     ("I got a discount.", "They had a deal on.", "Somebody mentioned happy hour.")),
    (("We sat down and stayed.", "We ate at the table.", "They seated us in the back."),
     ("I took some food home.", "We got a box to go.", "They packed it up for us.")),
)
# How often a hint is true: people come at odd hours, and find dear what others find cheap.
HINT_TRUTH = (0.55, 0.65, 0.55, 0.55)

TOO_SHORT = ("Great!", "Meh.", "Never again.", "Love it", "Closed on Mondays.", "ok", "Two thumbs up!")

CAPTION_SUBJECTS = {
    "food": ("my plate", "the food", "what I ordered", "the special", "so much food"),
    "drink": ("my drink", "cheers", "something to drink", "a drink with my friend"),
    "inside": ("the room", "inside", "our table", "the dining area", "a look around"),
    "outside": ("the front", "from the street", "the entrance", "outside", "the storefront"),
    "menu": ("the menu", "what they have", "menu page", "the choices"),
}
CAPTION_TRADES = {
    "Automotive": ("burger at the garage", "the garage"),
    "Shopping": ("donut at the store", "the store"),
    "Event Planning & Services": ("cake at the event", "the party room"),
    "Pizza": ("pizza", "the pizzeria"),
    "Coffee & Tea": ("coffee", "the cafe"),
    "Active Life": ("rice bowl at the gym", "the sports center"),
    "Beauty & Spas": ("fruit plate at the spa", "the salon"),
    "Local Services": ("sandwich by the laundry", "the laundry"),
    "Health & Medical": ("soup at the clinic", "the pharmacy counter"),
    "Home Services": ("pie at the home store", "the home store"),
}
# As HINTS.
CAPTION_CUES = (
    (("at lunch", "around noon", "in the sunshine", "midday"),
     ("at dinner", "in the evening", "by candlelight", "at night")),
    (("cheap", "nothing fancy", "under ten bucks", "easy on the wallet"),
     ("fancy", "very elegant", "upscale", "not cheap")),
    (("full price", "no specials", "regular prices"), ("happy hour", "happy hour sign", "half off until six")),
    (("eating in", "dine in only", "no boxes"), ("to go bag", "takeout", "packed to go")),
)
NUM_CAPTION_CUES = {0: 0.15, 1: 0.3, 2: 0.4, 3: 0.15}
CAPTION_TRUTH = 0.87
VAGUE_CAPTIONS = ("Yum!", "photo", "our visit", "IMG_2041", "with friends", "so good", "view from our seat", ":)",
                  "again", "Caf\u00e9 day")
