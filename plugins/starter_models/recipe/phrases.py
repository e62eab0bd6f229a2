# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (a line holds the phrases of one kind)
"""What callers of a reception desk say, by intent, in the notation of `recipe/grammar.py`."""

from __future__ import annotations

from recipe.grammar import listed

OPENERS = (
    "(hi|hello|hey|good morning|good afternoon|hi there|hello there)(, |. )",
    "(um|uh|er|well|so|okay|right|oh|ah|yeah|yes|no|sorry|actually|please|great|perfect|alright|sure), ",
    "(um|uh|er|well|so|okay|right|oh), (um|uh|well|so|yeah|actually), ",
    "(yes|yeah|okay|right|thanks|thank you|great|lovely), (and|but|so) ",
    "(and|but|so) ",
    "(excuse me|sorry|I was wondering|just a quick question|quick question|one question), ",
    "(oh|and|okay), one (more|other) (thing|question), ",
    "(thanks|thank you|great|perfect|okay|lovely|brilliant). ",
)

SMALL_STARTS = frozenset(
    listed(
        "what when where how do does is are can could would will may i'd i'll at on for the my it "
        "the a an and which who let make put you no not yes it's that's that which please any "
        "have there's just around about maybe tell give is say thanks thank"
    )
)

_PLEASE = "[, please]"
_ASK = "(can|could) you (please |)tell me"
_KNOW = (
    "(I'd like to know|I want to know|I wanted to know|I wanted to ask|I'm wondering|do you know)"
)

THINGS = (
    "an appointment", "an appointment", "an appointment", "a booking", "a slot", "a time",
    "a visit", "something", "an appointment with you",
)  # fmt: skip

BOOK = (
    "I'd like (to book|to make|to get|to schedule|to have|to arrange) {thing} {when}[, please].",
    "I'd like {thing} {when}[, please].",
    "I (want|need|would like) (to book|to make|to schedule|to arrange) {thing} {when}[, please].",
    "I (want|need) {thing} {when}[, please].",
    "(can|could|may) I (book|make|get|have|schedule|arrange) {thing} {when}[, please]?",
    "(can|could) you (book|put|fit|squeeze|pencil) me in {when}[, please]?",
    "(can|could) you (book me|give me|find me|get me|make me) {thing} {when}[, please]?",
    "(do|would) you have (anything|a slot|any time|any room|a free slot|space|an opening) {when}?",
    "have you got (anything|a slot|any slots|any time|space|something free|room) {when}?",
    "is there (anything|a slot|any time|something|space) (free|available|open) {when}?",
    "are there any (appointments|slots|times|openings) (free |available |left |){when}?",
    "I'm (calling|phoning|ringing) to (book|make|arrange|schedule) {thing} {when}.",
    "I'm (calling|phoning|ringing) (about|for) {thing} {when}.",
    "I was (hoping to|looking to|wondering if I could) (book|get|make) {thing} {when}.",
    "I was hoping for {thing} {when}[, if possible].",
    "I'm looking for {thing} {when}.",
    "I'm trying to (get|book|make) {thing} {when}.",
    "(can|could|may) I (come in|come by|come|pop in|drop by|stop by|be seen|see someone) {when}?",
    "would it be possible to (come in|book|get {thing}|have {thing}|be seen) {when}?",
    "is it possible to (come in|book|get {thing}|make {thing}|be seen) {when}?",
    "(let's|let us) (book|make|do|say) {thing} {when}.",
    "(please |)(book|put) me (in|down) {when}[, please].",
    "book {thing} {when}[, please].",
    "{thing} {when}, please.",
    "{thing} {when}.",
    "I'd (like|love) to come (in|by|over) {when}[ for {thing}].",
    "I('d| would) like to (be seen|see somebody|see someone) {when}.",
    "I need to (come in|see someone|be seen|get in) {when}[, please].",
    "any chance of {thing} {when}?",
    "(any|is there any) chance (you could fit me in|I could come in|I could get in) {when}?",
    "what (do you have|have you got|is free|is available|times do you have) {when}?",
    "(does|would|will) {when} work[ for {thing}]?",
    "I (could|can) (come in|make it|do) {when}.",
    "how about {when}[ for {thing}]?",
    "would {when} be (possible|okay|all right|free)?",
    "my (wife|husband|son|daughter|mother|father) needs {thing} {when}.",
    "set me up (with {thing}|) {when}[, please].",
    "(I think |)I need to make {thing}[, maybe] {when}.",
    "I'd like to reserve {thing} {when}[, please].",
    "yes, (I'd like|I want|can I book|I need|let's book) {thing} {when}[, please].",
)

BOOK_NAMED = (
    "I'd like (to book|to make) {thing}[, please].",
    "I need {thing}.",
    "(can|could) I (book|make) {thing}[, please]?",
)

NAME_WITH = (
    "(my|the) name is {name}.", "(my|the) name's {name}.", "it's {name}.", "this is {name}.",
    "it's for {name}.", "for {name}.", "I'm {name}.", "{name} is my name.", "the name is {name}.",
    "{name} here.", "under {name}.", "it's {name} (calling|speaking).", "{name}.",
    "(put it|please put it|book it) under {name}.", "it would be for {name}.",
)  # fmt: skip

CALLER: dict[str, tuple[str, ...]] = {
    "greet": (
        "(hi|hello|hey)[ there].", "(good morning|good afternoon|good evening|good day).",
        "(hello|hi), (good morning|good afternoon).", "hello? (hello?|is anyone there?|)",
        "(hi|hello), (is anybody there|can you hear me|are you there)?",
        "(hi|hello|good morning), this is {name}.", "(hi|hello), my name is {name}.",
        "(hi|hello|good morning), (I have|I've got|I had) a (quick |)question.",
        "can you help me[, please]?", "(I need|I'd like|I want) some (help|information).",
        "(I want|I'd like) to ask (something|you something|a question).",
        "can I ask (you |)(something|a question)?",
    ),
    "hours": (
        f"(what are|what're|{_ASK}) your (opening |business |office |)hours[, please]?",
        "when are you open[, please]?", "when (do|does) (you|the place) open and close?",
        f"{_ASK} (when you are open|when you're open|your opening times|your hours)[, please]?",
        f"{_KNOW} (when you're open|your opening hours|what hours you're open|your opening times).",
        "what (times|hours|days) are you open?", "(which|what) days (are|do) you (open|work)?",
        "what are your (opening times|working hours|times|days)?", "opening hours[, please].",
        "(when|what time|at what time) can I come (in|by|over|to you)?",
        "how late are you open?", "how long are you open (for|)?", "what time do you (open|close|shut)?",
        "when do you (open|close|shut|finish|start)?", "your (opening |)hours, please.",
        "are you open (at the weekend|on weekends|at weekends|on the weekend)?",
        "do you (open|work) (at the weekend|on weekends|at weekends)?",
        "are you open (every day|all week|all day|in the evening|in the evenings|late)?",
        "until when are you open?", "(till|until) what time are you open?",
        "could you give me your (opening |)hours[, please]?",
        "I'd like to (drop by|come by|stop by), when are you (open|there)?",
        "what's your schedule?", "when would you be open?", "I need your opening times.",
        "remind me when you open.", "tell me (your hours|your opening hours|when you're open)[, please].",
    ),
    "hours_day": (
        "are you open {on_day}?", "are you open {on_day}?", "are you (guys |)(still |)(working|in|there) {on_day}?",
        "do you (open|work) {on_day}?", "what are your (opening |)hours {on_day}?",
        "what (time|times|hours) are you open {on_day}?", "when are you open {on_day}?",
        "(will|would) you be (open|there|in) {on_day}?", "is (it|the place|the office) open {on_day}?",
        "are you closed {on_day}?", "is anyone (there|in) {on_day}?", "{day}, are you open?",
        f"{_ASK} (if|whether) you('re| are) open {{on_day}}?",
        f"{_KNOW} (if|whether) you('re| are) open {{on_day}}.",
        "what about {day}?", "and {day}?", "how about {day}, are you open (then|)?",
        "(and |)what about {on_day}, are you open?", "(can|could) I come {on_day}, are you open?",
        "do you have hours {on_day}?", "any chance you're open {on_day}?",
        "what time do you (open|start|close|shut|finish) {on_day}?",
        "when do you (open|start|close|shut|finish) {on_day}?",
        "how (late|long|early) are you open {on_day}?",
        "until (when|what time) are you open {on_day}?", "what are {day}'s hours?",
        "do you happen to be open {on_day}?", "you're open {on_day}, (right|aren't you|yes)?",
        "so you're (open|closed) {on_day}?", "you don't (open|work) {on_day}, do you?",
        "are you open {on_day} or (closed|not|are you closed)?", "open {on_day}?",
        "I'm (free|off work|in town) {on_day}, are you open then?",
        "would I find you open {on_day}?", "is {day} a working day for you?",
    ),
    "address": (
        "where are you[, please]?", "where are you (located|based|exactly)?", "where is (it|that|your office|the place|your place|the practice|your shop)?",
        "what's (your|the) address[, please]?", "what is (your|the) address[, please]?",
        f"{_ASK} (your address|the address|where you are|where you're located|where to find you)?",
        "(can|could) (I|you) (have|get|give me) (your|the) address[, please]?",
        "how do I (get there|find you|get to you|reach you|come to you)?", "how can I (find|get to|reach) you?",
        "where do I (need to go|go|come|have to go|find you)?", "where (can|do|would|will) I find you?",
        "(which|what) street are you on?", "what's your location?", "your address, please.",
        "(the |)address[, please]?", f"{_KNOW} where you are.", "are you (in the centre|near the station|in town|downtown)?",
        "I don't know where you are.", "I can't find you[, where are you].", "directions[, please]?",
        "what part of town are you in?", "where exactly (are you|is the office|is that)?",
        "how do I get to your (place|office|shop)?", "is it easy to find you?",
        "where should I (come|go) (to|)?", "what's the best way to get (there|to you)?",
    ),
    "parking": (
        "is there [any |free ](parking|a car park)[ there| nearby]?", "do you have (parking|a car park|parking spaces|any parking)?",
        "where (can|do|could|should|would) I park[ my car]?", "(can|could) I park (there|nearby|outside|in front|close by|my car there)?",
        "is (the |)parking free?", "(what about|how about|how is) parking?", "I'm coming by car[, where can I park|, can I park there].",
        "I'll (drive|be driving|come by car)[, is there parking|, where do I park|, can I park].", "parking?", f"{_ASK} (about parking|where to park|where I can park)?",
        "is there somewhere (to park|I can park|I can leave the car)?", "do I have to pay for parking?",
        "where do I (leave|put) (my|the) car?", "is it easy to park?", "any parking (nearby|there|close by)?",
    ),
    "payment": (
        "how can I pay?", "can I pay (by card|with a card|in cash|with cash|by credit card|by phone)?",
        "do you (take|accept) (cards|credit cards|cash|card|card payments|debit cards)?", "what (payment methods|cards|forms of payment|payments) do you (take|accept)?",
        "(is|are) (cash|cards|card) okay?", "do I (have to|need to) pay (cash|in cash|by card)?", "how do (I|people|you want me to) pay?",
        "which (cards|payment methods) do you (take|accept)?", "(can|do) I pay (cash|by card) or (in cash|by card)?",
        "what about (payment|paying)?", f"{_ASK} how (I can pay|to pay)?", "is it (cash only|card only)?",
        "I only have (cash|a card)[, is that okay].", "payment?", "how would I pay?", "can I (use|pay with) (my card|a card|cash)?",
    ),
    "services": (
        "what services do you (offer|have|provide)?", "what (do you do|do you offer|can you do|kind of things do you do)?", "which (services|treatments) (do you have|do you offer|are there)?",
        f"{_ASK} (what you offer|what you do|about your services)?", "what (can I get|can I have done|can I book) (there|with you|at yours)?",
        "what kind of (services|appointments|treatments) do you (offer|have)?", "what treatments do you (do|offer)?", "your services[, please]?",
        "I'd like to know what you (do|offer).", "what sort of (things|work|services) do you (do|offer)?",
    ),
    "prices": (
        "(what are|what're) your prices?", "how much do you charge?", "what does (it|an appointment|that|a visit) cost?", "how much is (it|an appointment|a visit|that|everything)?",
        "how much (does it|would it|will it|will that) cost?", f"{_ASK} (your prices|what you charge|what it costs|how much it is|the prices)?",
        "what do you charge?", "prices[, please]?", "what would (it|that) cost (me|)?", "do you have a price list?", "(is|are) (it|you) expensive?",
        "what are the (costs|prices|fees|rates)?", f"{_KNOW} (your prices|what it costs|how much it is|the price).",
    ),
    "price": (
        "how much is (a|the) {service}?", "how much (does|would|will) (a|the) {service} cost?", "what does (a|the) {service} cost?",
        "how much do you (charge|ask|want|take) for (a|the) {service}?", "what('s| is) the (price|cost|fee|charge) (of|for) (a|the) {service}?", f"{_ASK} (how much a {{service}} is|what a {{service}} costs|the price of a {{service}})?",
        "(what|how much) would (a|the) {service} (be|cost|cost me)?", "(what|how much) do I (pay|have to pay|need to pay) for (a|the) {service}?", "(and |)(what about|how about) (a|the) {service}?",
        "and (a|the) {service}?", "price (of|for) (a|the) {service}[, please]?", "a {service}, how much is that?", "(what|how much) will a {service} (set me back|cost me|be)?",
        "(what|how much) are you charging for a {service}?", f"{_KNOW} (what a {{service}} costs|how much a {{service}} is|the price of a {{service}}).", "how expensive is a {service}?",
        "how much for (a|the|one) {service}?", "what's (a|the) {service} (these days|with you|going to cost|going for)?", "is a {service} expensive?",
        "(what|how much) does it cost to (have|get) a {service}?", "I need a {service}, (how much is that|what would that cost|what does that cost)?", "what do you charge for a {service}?",
        "how much money is a {service}?", "what are you asking for a {service}?", "the {service}, what's (the price|that cost)?",
    ),
    "offered": (
        "do you (do|offer|have) (a |){service}s?", "do you do {service}s?", "do you offer (a |){service}?", "can I (get|have) a {service} (there|with you|at yours)?", "do you (also |)do a {service}?",
        "(can|do) you (do|offer) a {service}?", "is it possible to get a {service}?",
    ),
    "phone": (
        "what('s| is) your (phone |telephone |)number?", "(can|could) (I|you) (have|get|give me) (your|a) (phone |telephone |)number?",
        "what number (can I call|do I call|should I call)?", "do you have a (phone number|direct number|number I can call)?", f"{_ASK} your phone number?",
    ),
    "email": (
        "what('s| is) your (email|email address)?", "do you have an email[ address]?", "can I (email|write to|send you an email|write an email to) you?", f"{_ASK} your email address?",
        "(can|could) I (have|get) your email[ address]?", "where can I write to[ you]?",
    ),
    "give_day": (
        "{day}[, please].", "{day}.", "{on_day}[, please].", "{day} (would be|is|sounds) (good|fine|great|best|perfect|okay|nice).", "{day} works[ for me].", "let's (say|do|go for|make it|try) {day}.",
        "how about {day}?", "what about {day}?", "(can|could) (we|you|I) do {day}?", "maybe {day}(?|.).", "(make it|I'd like|I want|I'd prefer|I prefer|I'd say) {day}[, please].", "(is|would) {day} (be |)(okay|possible|all right|free)?",
        "(I think |)(say |){day}[, if possible|, if you can|, if that's okay|, if that works].", "{day} if (possible|you can|that's okay|you have it).", "{day} (suits me|would suit me|is good for me) (best|).", "I'm free {on_day}.", "I (can|could) (do|come) {on_day}.",
        "would {day} work?", "it (should|has to|would) be {day}.", "preferably {day}.", "do you have anything {on_day}?", "I was thinking {day}.", "{day} I think.", "any time {on_day}.", "{day}, is that possible?",
        "let me see, {day}.", "hmm, {day}.", "I'll take {day}.", "put me down for {day}.", "{day} then.", "the best day would be {day}.", "{day} is my day off.",
    ),
    "give_time": (
        "{time}[, please].", "{time}.", "at {time}[, please].", "(around|about|at about|at around) {time}[, please].", "{time} (would be|is|sounds) (good|fine|great|best|perfect|okay|nice).", "{time} works[ for me].", "let's (say|do|go for|make it|try) {time}.",
        "how about {time}?", "what about {time}?", "(can|could) (we|you|I) do {time}?", "maybe {time}(?|.).", "(make it|I'd like|I want|I'd prefer|I'd say) {time}[, please].", "(is|would) {time} (be |)(okay|possible|all right|free)?",
        "say {time}.", "{time} if (possible|you can|that's okay|you have it).", "{time} (suits me|would suit me|is good for me) (best|).", "I (can|could) (come|be there|make it|do) at {time}.",
        "would {time} work?", "it (should|has to|would) be {time}.", "preferably {time}.", "do you have anything at {time}?", "is {time} (free|available|open)?", "I was thinking {time}.", "{time} I think.", "the time is {time}.",
        "let me see, {time}.", "hmm, {time}.", "I'll take {time}.", "put me down for {time}.", "{time} then.", "{time} would be the best.", "shall we say {time}?", "is {time} all right?", "could I come at {time}?",
    ),
    "give_when": (
        "{when}[, please].", "{when}.", "(how|what) about {when}?", "(can|could) (we|you|I) do {when}?", "let's (say|do|go for|make it|try) {when}.", "{when} (would be|is|sounds) (good|fine|great|perfect|okay).",
        "{when} works[ for me].", "is {when} (free|possible|available|okay)?", "would {when} work?", "(maybe|say|preferably) {when}.", "I (can|could) come {when}.", "I'd (like|prefer) {when}[, please].", "make it {when}[, please].",
        "{when}, if (possible|that's okay|you have it|you can).", "I'll take {when}.", "put me down for {when}.", "{when} suits me.",
    ),
    "give_name": (
        "{name}[, please].", "{name}.", "(it's|it is|this is|I'm|I am) {name}.", "(my|the) name('s| is) {name}.", "my name is {name}.", "{name} is my name.", "(put it|put me|book it|please put it|make it) (under|down as|down for) {name}.", "under {name}[, please].",
        "(it's|the appointment is|it would be|that's) for {name}.", "for {name}.", "sure, (it's |){name}.", "of course, (it's |){name}.", "you can (call me|say|write|put) {name}.", "just {name}.", "{name}, thank you.", "call me {name}.", "yes, (it's|my name is|this is) {name}.",
        "I'm called {name}.", "{name} (here|speaking).", "it's for my (son|daughter|wife|husband|mother|father), {name}.", "my (son's|daughter's|wife's|husband's) name is {name}.", "they call me {name}.", "that would be {name}.", "the name (would be|is) {name}.", "everybody calls me {name}.",
    ),
    "change_day": (
        "no, {day}[, please].", "(sorry|actually|no|wait|oh), (not that day|I meant|I mean|I said|make it|make that|let's do|can we do|better|rather) {day}.", "actually, {day} (is|would be) better.", "(can|could) (you|we|I) (change it|move it|switch it|change that|make it) to {day}?", "(can|could) (you|we) make (it|that) {day}[ instead]?",
        "I'd (rather|prefer) (come |have |do |){day}.", "{day} instead[, please].", "no no, {day}.", "(I|oh, I) (changed my mind|made a mistake), {day}[, please].", "on second thought, {day}.", "{day} would (suit me|be) better.", "that day (doesn't work|is no good|isn't good), {day}[, please].", "hmm, {day} is better[ for me].", "it should be {day}.", "I can't that day, (how about |what about |){day}.", "sorry, I got that wrong, {day}.",
    ),
    "change_time": (
        "no, {time}[, please].", "(sorry|actually|no|wait|oh), (not that time|I meant|I mean|I said|make it|make that|let's do|can we do|better|rather) {time}.", "actually, {time} (is|would be) better.", "(can|could) (you|we|I) (change it|move it|switch it|change that|make it) to {time}?", "(can|could) (you|we) make (it|that) {time}[ instead]?",
        "I'd (rather|prefer) (come at |have |do |){time}.", "{time} instead[, please].", "no no, {time}.", "(I|oh, I) (changed my mind|made a mistake), {time}[, please].", "on second thought, {time}.", "{time} would (suit me|be) better.", "(a bit|a little) (later|earlier), {time}[, please].", "that's too (early|late), {time}[, please].", "that's too (early|late), (how about|what about|can we do) {time}?", "hmm, {time} is better[ for me].", "it should be {time}.", "sorry, I got that wrong, {time}.",
    ),
    "change_name": (
        "no, (it's|my name is|the name is) {name}.", "no, {name}.", "(sorry|actually|no|wait), (I meant|I said|it's|make it|put it under) {name}.", "that's not my name, (it's|I'm) {name}.", "not that name, {name}.", "the name is wrong, it's {name}.", "it's {name}, actually.",
    ),
    "yes": (
        "(yes|yeah|yep|yup|sure|okay|correct|right|exactly|of course|absolutely).", "(yes|yeah|sure), (please|that's right|that's fine|go ahead|that works|I would|that's it|that's correct|that's good).", "that's (right|correct|fine|good|perfect|great|okay).", "yes, yes.", "(that|it) (works|sounds good|is fine)[ for me].", "please do.", "I (do|would).", "go ahead.", "(okay|yes), (great|good|perfect).",
    ),
    "no": (
        "no.", "(nope|nah|not really).", "no, (that's wrong|that's not right|that isn't right|not that|it isn't|I don't).", "that's (wrong|not right|not correct|not what I said).", "I don't (think so|want that).", "(not now|not yet|not today).",
    ),
    "repeat": (
        "(sorry|pardon|excuse me|what)?", "(can|could) you (please |)(repeat|say) that[ again| once more][, please]?", "(what did you say|what was that|come again|say that again|say again|once more)[, please]?", "I (didn't|did not) (hear|catch|get|understand) (that|you|it|what you said).", "(sorry|pardon), (I didn't get that|what was that|what did you say|can you repeat that|could you repeat that).", "one more time[, please]?", "again, please.", "I couldn't hear you[, can you repeat that].", "could you (say it|repeat it|go over that) (again|once more|one more time)?", "I beg your pardon?", "sorry, what?", "(the line|your voice) (is|was) bad, (can|could) you repeat (that|it)?",
    ),
    "robot": (
        "(are you|is this) a (robot|machine|computer|real person|human|bot|recording)?", "am I (talking|speaking) to a (robot|machine|computer|real person|human|person)?", "are you (human|real|a person|an automated system|artificial)?", "is this (an|) (automated|a real person|a recording|a person)?", "who (are you|am I speaking to|am I talking to|is this)?", "you sound like a (robot|machine|computer).", "what are you?", "what('s| is) your name?", "do you have a name?", "is that a real person?",
    ),
    "business": (
        "(is this|is that|am I speaking to|did I reach|have I reached|do I have) the right (place|number)?", "(who|which place|what company|which company) (is this|did I call|have I called|have I reached)?", "where did I call?", "what('s| is) the name of (the|your) (place|company|business|office)?", "what place is this?", "what are you called?",
    ),
    "person": (
        "(can|could|may) I (speak|talk) (to|with) (a|an|the|your) (person|human|real person|manager|doctor|boss|somebody|colleague)[, please]?", "I (want|would like|need|'d like) to (speak|talk) (to|with) (a|the|somebody|someone) (person|human|manager|real|else|there).", "(put|connect|transfer) me (through |)to (a person|someone|the manager|somebody)[, please].", "is there (a person|somebody|someone) I can (talk|speak) to?", "I don't want to talk to a (machine|robot|computer).",
    ),
    "wait": (
        "(wait|hold on|hang on|one moment|just a moment|one second|just a second|wait a minute|wait a moment)[, please].", "(sorry|oh|um), (wait|hold on|hang on|one moment|one second|just a second).", "(hold on|wait), (I need to check|let me check|let me think|let me look|I need to think|I'm thinking).", "let me (check|think|see|look at my calendar|find my calendar)[ for a moment].", "give me a (second|moment|minute)[, please].", "(can|could) you (wait|hold on) a (moment|second|minute)?",
    ),
    "stop": (
        "stop.", "(okay|please|no|wait), stop.", "stop (talking|it|there|that)[, please].", "(sorry|wait|stop), (I have|I've got|let me ask) (another|a different|a) question.", "no no no.", "be quiet.", "that's enough.", "never mind.", "forget (it|that).", "(never mind|forget) (that|about that|it).",
    ),
    "backchannel": (
        "(mm-hmm|uh-huh|mhm|mm|hmm|ah|oh|aha)..", "(okay|right|sure|alright|all right|fine|good|great|yeah|I see|got it|understood|perfect|cool|nice|lovely|wonderful|excellent|very good).", "(oh|ah|okay|right), (okay|right|I see|good|great|fine|got it).", "that's (good|great|fine|nice|good to know|helpful|cool).", "(good|okay) to know.", "I understand.", "makes sense.",
    ),
    "how_are_you": (
        "how are you[ today| doing| doing today]?", "(hi|hello|hey), how are you[ today| doing]?", "how's it going?", "how is your day[ going| so far]?", "(are you|you) (well|okay|all right|doing well)?", "nice to (meet you|hear you|talk to you).", "how do you do?", "what's up?", "how have you been?", "I hope you're (well|having a good day).",
    ),
    "thanks": (
        "(thank you|thanks|many thanks|cheers|thanks a lot|thank you very much|thank you so much)[, great|, perfect|, that's great|, that's helpful|, that's good].", "(great|perfect|okay|lovely|good|brilliant|wonderful), (thank you|thanks|thanks a lot|cheers).", "that's (great|perfect|very kind|kind of you|very helpful|good), (thank you|thanks).", "I appreciate (it|that|your help).", "that('s| is) (very |really |)(kind|helpful).", "(thank you|thanks) for (your help|that|the information|telling me|helping me).", "you're (very |)(kind|helpful).",
    ),
    "goodbye": (
        "(bye|goodbye|bye bye|bye now|bye for now|see you|see you then|see you soon|take care|have a good day|have a nice day).", "(thank you|thanks|thanks a lot|great|okay|perfect|alright|cheers|lovely)[ very much| so much|], (bye|goodbye|bye bye|see you|see you then|see you soon|take care|have a good day|have a nice day|bye now).",
        "(no|nope|no thanks|no thank you), (that's all|that's it|that's everything|that was all|that would be all|that will be all|that's all for today|nothing else|I'm good|I'm fine|we're done|all good)[, thanks|, thank you|, bye|, goodbye|, thank you, bye].", "(that's|that is|that was|that will be|that'll be) (all|it|everything)[ I needed| for today| for now| from me|][, thanks|, thank you|, bye|, goodbye|, thank you very much].",
        "(okay|alright|right|great), (that's all|that's it|that's everything)[, thank you|, thanks|, bye].", "no, (thank you|thanks)[, bye|, goodbye|, that's all|, have a good day].", "nothing else[, thanks|, thank you|, bye].", "I'm (done|good|all set|finished)[, thank you|, thanks|, bye].", "I (have to|need to|must|should) go[ now][, bye|, goodbye|, thank you].",
        "(talk|speak) to you (later|soon)[, bye].", "see you (on {day}|tomorrow|later|then)[, bye].", "(have|you have) a (good|nice|great|lovely) (day|one|evening|weekend|afternoon)[, bye|, goodbye].", "(you can|please) (hang up|end the call)[ now].", "I'll (hang up|let you go|leave it there) now[, bye].", "good night[, bye].", "(great|okay), (see you|bye) then[, bye].", "(okay|right), (I'll be going|I'm off)[, bye|, thanks, bye].", "no, (I think |)that('s| is) (all|it|everything)[, thank you|, thanks][, bye].", "thanks for (your help|everything|that)[ today|], (bye|goodbye|see you|that's all|take care).", "goodbye[ and thank you| and thanks|].", "ciao.",
    ),
    "vague_day": (
        "(any day|any day is fine|I don't mind which day|whenever|whenever you have time|whenever suits you|it doesn't matter|I'm flexible|as soon as possible|the earliest you have|soon|whichever day).", "(sometime|some time) (this week|next week|soon|this month).", "(this|next) week[, please].", "I don't know (yet|which day).", "I'm not sure (yet|which day)[, let me think].", "what days (do you have|are free|are available|have you got)?", "when (can I come|do you have time|is the next one|is your next slot|are you free|could you see me)?", "what do you have?", "when is the (next|earliest) (free |)(slot|appointment)?", "which days are (free|possible|available)?",
    ),
    "vague_time": (
        "(any time|any time is fine|I don't mind|whenever|whenever suits you|it doesn't matter|I'm flexible|as early as possible|the earliest you have|as late as possible|whatever you have).", "(in the|some time in the|sometime in the) (morning|afternoon|evening)[, please].", "(morning|afternoon|evening|early|late|after lunch|before lunch|after work)[, please].", "(a|the) (morning|afternoon) (would be good|would be best|please|works|is better).", "what times (do you have|are free|are available|have you got)?", "which times are (free|possible|available)?", "what do you have?", "I'm not sure (yet|what time)[, let me think].", "what's (free|available)[ then| that day]?", "when do you have time?",
    ),
    "insurance": (
        "do you (take|accept) (my |)(insurance|health insurance)?", "does (my |the |)insurance (pay|cover it|cover that)?", "(which|what) insurance do you (take|accept)?", "is (it|that) covered by (my |)insurance?", "I have insurance[, do you take it].",
    ),
    "cancel": (
        "I (want|need|would like|have|'d like) to cancel (my appointment|an appointment|my booking|a booking).", "(can|could) I cancel (my appointment|my booking)[, please]?", "please cancel my (appointment|booking).", "I (can't|cannot) (come|make it) to my appointment.",
    ),
    "weather": (
        "(what's|how's|how is) the weather[ like| like today| today| tomorrow]?", "will it rain (today|tomorrow)?", "I'd like to order a pizza.", "(can|could) (I|you) order (me |)a (pizza|taxi|coffee)?", "tell me a joke.", "what time is it?", "who won the (game|match)?", "(can|could) you (sing|tell me a story|tell me the news)?", "what's the news?",
    ),
}  # fmt: skip

WEIGHTS: dict[str, float] = {
    "hours_day": 3.0, "hours": 2.0, "price": 3.0, "give_day": 2.5, "give_time": 4.0,
    "give_when": 2.5, "give_name": 3.0, "change_day": 1.5, "change_time": 2.0, "goodbye": 2.5,
    "backchannel": 0.8, "wait": 0.8, "stop": 0.5, "phone": 0.5, "email": 0.5, "business": 0.4,
    "person": 0.5, "insurance": 0.4, "weather": 0.5, "cancel": 0.5, "services": 0.7,
    "change_name": 0.6, "no": 0.6, "offered": 0.7,
}  # fmt: skip
