# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (a line holds the phrases of one kind)
"""What else a desk may be asked: facts a prompt may hold, each with the ways to ask for it."""

from __future__ import annotations

from recipe import phrases
from recipe.llm.corpus import Topic


def _topic(facts: str, questions: str) -> Topic:
    return Topic(
        tuple(line.strip() for line in facts.strip().splitlines()),
        tuple(line.strip() for line in questions.strip().splitlines()),
    )


PARKING = Topic(
    (
        "There is (free |)parking (behind|in front of|next to|under|opposite) (the building|us|the shop|the practice).",
        "(Parking is free|You can park for free|You can park) (behind the building|in front of the door|in the street|in the yard|on {street}).",
        "(We have|There are) {num} (parking spaces|free parking spaces|spaces) (behind the house|in the yard|in front|at the back).",
        "(We have no|There is no) parking[ of our own], but (there is|you can use) (a|the) car park (on {street}|at the station|around the corner).",
        "You can park in the (garage|car park) on {street}[ for {num} {cur} an hour].",
        "We have no parking.",
        "Parking costs {num} {cur} an hour.",
        "Please park (behind|next to) the {place}.",
        "The car park (is|you can use is) (behind|next to|opposite) the {place}.",
    ),
    (
        *phrases.CALLER["parking"],
        "where (shall|would|could) I leave (my|the) (car|van|motorbike)?",
        "(can|could) I leave my car (somewhere|there|outside)?",
        "I've got (a|the) car[ with me], where (can|do) I (put it|leave it|go with it)?",
        "(have you got|got|is there) (any |)(car park|parking|parking space|spaces)[ for customers]?",
        "what's the parking (like|situation)[ there]?",
        "is (there|it) a place for (my|the) car?",
    ),
)
PAYMENT = Topic(
    (
        "You can pay (by card or in cash|in cash or by card|by card only|in cash only|by card, in cash or by phone|with any card).", "We (take|accept) (cash and cards|all cards|cards and cash|cards, but no cash|all major cards|only cash|credit cards and cash).",
        "Cash and cards are (accepted|welcome|both fine).", "Payment is (by card or cash|by card only|in cash only).", "We don't take (cash|cards|checks).", "Please pay (by card|in cash|by card or cash)[ at the desk].", "Payment is by card(, no cash| or in cash| only).", "We send you a bill[ by post].", "We take cash only.",
    ),
    (*phrases.CALLER["payment"], "(can|could|may) I (pay|settle|do it) (with|by|in|using) (card|cash|my phone|a credit card|plastic|contactless|a debit card|notes|a check)?", "(is|would) (contactless|card|cash|a credit card|plastic) (be |)(all right|fine|okay|accepted)?", "do I need to bring (cash|money)?", "will you take (a card|my card|cash|cards)?", "should I bring cash?", "what (ways|way) can I pay?", "how do you want (the money|to be paid)?"),
)  # fmt: skip
ADDRESS = Topic(
    (
        "We are at {address}{landmark}.", "We are at {address}{landmark}.", "(You find us|You will find us|You'll find us|You can find us) at {address}{landmark}.", "(Our|The) address is {address}{landmark}.", "(We're|The {trade} is|We are located|We sit) at {address}{landmark}.",
        "(We are|We're) on {street}{landmark}.", "The {trade} is (at|on) {address}{landmark}.", "Address: {address}{landmark}.", "Come to {address}{landmark}.", "Our {trade} is at {address}{landmark}.",
    ),
    (*phrases.CALLER["address"], "whereabouts are you?", "(whereabouts|where) in (town|the city) are you?", "what address (should|do) I (put in|use|give) (for the taxi|for the map|my phone|)?", "where (is|are) (that|you) (exactly|again|located)?", "I've (never|not) been (there|to you)[ before], where (are you|is it)?", "how would I (find|get to) (you|the place)?", "where's (your|the) (place|shop|office|building|practice|clinic)?", "(can|could) you (tell|give) me (your location|directions)?", "what's nearby?", "what are you (near|close to|next to)?", "(is there|do you have) a landmark nearby?", "which road (are you on|is it)?"),
)  # fmt: skip
PHONE = _topic(
    """(Our|The) (phone |telephone |)number is {digits}.
    (You can call us|Call us|You reach us) (at|on) {digits}.
    Our number is {digits}.""",
    "\n".join(phrases.CALLER["phone"])
    + """
    what number (are you on|is this|do you have)?
    (how|where) (can|do) I (call|ring|phone) you( back|)?
    (give me|could I have) a number to (call|ring)[ you| back].""",
)
EMAIL = _topic(
    """(Our|The) email (address |)is {mail}.
    (You can write|Write|Send an email) to {mail}.
    Email: {mail}.""",
    "\n".join(phrases.CALLER["email"])
    + """
    (what|which) (email|address) (do|should|can) I (use|write to|send it to)?
    (where|how) (do|can) I (send|email) (a|my|the) (photo|message|form|document|mail)?""",
)

EXTRA: dict[str, Topic] = {
    "parking": PARKING, "payment": PAYMENT, "phone": PHONE, "email": EMAIL,
    "staff": _topic(
        """(The|Our|Your) ({pro}|owner|manager) is ({title} |){surname}.
        ({title} |){surname} (is the {pro}|runs the {trade}|is our {pro}|sees the patients|works here).
        (Your {pro}s are|Our {pro}s are|The team is) ({title} |){surname} and ({title} |){surname}.""",
        """(who is|who's) (the|your) ({pro}|doctor|owner|boss|manager)?
        who (would|will) (I see|see me|be seeing me|treat me|look after me|do it)?
        (what's|what is) the (name of the {pro}|{pro}'s name|doctor's name|owner's name)?
        (which {pro}|who) (works|is working) (there|with you|for you)?
        who (runs|owns) (the place|it|the {trade})?
        (can you tell me |)who (the {pro} is|is in charge|does the work)?
        what {pro}s do you have?""",
    ),
    "access": _topic(
        """(The {trade}|The building|The entrance) (is step-free|has a ramp|has a lift|has an elevator|is wheelchair accessible|has no steps).
        There is (a ramp|a lift|an elevator|no lift|no elevator|a step-free entrance) (at the door|at the back|at the entrance|inside).
        We are on the (ground|first|second|third) floor(, and there is a lift|, without a lift|).
        Wheelchair users (can use the side door|are welcome|have a ramp at the back).""",
        """(is there|do you have|have you got) (a lift|an elevator|stairs|steps|a ramp|wheelchair access|step-free access)?
        (can|could) I (come|get in) (with|in) a (wheelchair|pram|stroller|walker)?
        (is|are) (it|you|the building) (accessible|wheelchair accessible|suitable for wheelchairs|step-free)?
        (I use|my mother uses|I'm in) a wheelchair[, can I get in|, is that a problem|, is it accessible].
        (which|what) floor (are you on|is it|is that)?
        do I (need|have) to (climb|take|use) (stairs|the stairs)?
        I can't (climb|do|manage) stairs.""",
    ),
    "pets": _topic(
        """(Dogs|Pets|Animals|Small dogs) (are welcome|are not allowed|must stay outside|may come along|must be on a lead).
        (You can|You may|Please do not) bring your (dog|pet|dogs).
        No (pets|dogs|animals), please.""",
        """(can|could|may) I (bring|take) my (dog|pet|puppy|dogs)[ along| with me| in]?
        (are|is) (dogs|pets|a dog|animals) (allowed|welcome|okay|all right|permitted)?
        I (have|have got|come with) a dog[ with me], is that (okay|all right|a problem)?
        (do you mind|what about) (dogs|pets|my dog)?
        is my dog (welcome|allowed)?""",
    ),
    "wifi": _topic(
        """(We have|There is) (free |)(wifi|internet|Wi-Fi)[ for guests| in the waiting room].
        (The wifi|Wi-Fi|The internet) is free[ for everybody].""",
        """(do you have|is there|have you got) (wifi|internet|Wi-Fi|a wifi)?
        (can|could) I (use|get on) (the|your) (wifi|internet)?
        is (the |)(wifi|internet) free?
        (what about|how about) (wifi|internet)?""",
    ),
    "insurance": _topic(
        """We (take|accept|work with) (all insurance|most insurance plans|all insurers|private insurance only|{surname} Insurance).
        (We do not|We don't) (take|accept) insurance.
        Please bring your insurance card.
        (Your insurance|Insurance) (pays for check-ups|pays for everything|usually pays half).""",
        "\n".join(phrases.CALLER["insurance"])
        + """
        (are you|will I be|am I) (covered|insured)?
        (do|can|will) you (bill|charge) my insurance?
        (I'm with|I have|I'm insured with) {surname} (Insurance|Health), (is that okay|do you take that|does that work)?""",
    ),
    "bring": _topic(
        """Please bring (your card|a photo|your passport|a towel|your old glasses|your papers|an ID|your X-rays|a list of your medicines|comfortable clothes).
        (New customers|New patients|First-time visitors) (fill in a form|should come ten minutes early|need an ID|bring an ID).
        You (do not need|don't need|need) to bring (anything|a towel|an ID|your papers).""",
        """(what|is there anything) (do|should|must) I (need to |have to |)(bring|take|carry)[ with me| along]?
        do I (need|have) to bring (anything|something|papers|my papers|an ID|documents)?
        (should|shall) I bring (anything|something)?
        (what|anything) (to|I should) bring?
        it's my first time, what do I need?
        I'm (a new patient|a new customer|new), what do I need[ to bring]?""",
    ),
    "policy": _topic(
        """(Please cancel|You can cancel|Cancellations are free|Cancelling is free) (a day before|up to a day before|one day ahead|{num} hours before|until the evening before).
        (If you do not come|If you miss it|For a missed appointment|A missed appointment costs|No-shows pay) {num} {cur}.
        (Late cancellations|Cancelling late) cost {num} {cur}.""",
        """(what|what happens) if I (cancel|can't come|can't make it|miss it|have to cancel|don't show up|don't come)?
        (what's|what is) (your|the) cancellation policy?
        (can|could|may) I cancel (later|for free|if I need to|last minute)?
        (is there|do you charge|do I pay) a (cancellation|no-show) fee?
        (until when|how late|how early) can I cancel?
        what does it cost to cancel?""",
    ),
    "emergency": _topic(
        """(In an emergency|For emergencies|For urgent cases)[,] (call|ring|please call|dial) {digits}.
        Emergencies are seen (the same day|at once|first|without an appointment).
        (We see|We take) emergencies (the same day|every morning at {hour}|without an appointment).
        We do not treat emergencies.""",
        """(what|what do I do) (if it's|if it is|in) (an emergency|urgent)?
        do you (see|take|treat|handle|do) (emergencies|urgent cases)?
        (it's|this is|I have|I've got) (urgent|an emergency)[, what can I do|, what do I do].
        (is there|do you have) an emergency (number|service|line)?
        (what|who do I call) (about|in an|in) (emergencies|emergency)?
        (what about|and) (emergencies|in an emergency)?""",
    ),
    "duration": _topic(
        """(A visit|An appointment|A session|Each appointment|Every visit) (takes|lasts) (about |)({num} minutes|half an hour|an hour|about an hour).
        (Plan|Allow|Please plan) (an hour|half an hour|{num} minutes) for (your visit|each visit|it).""",
        """how long (does|will|would|do) (it|an appointment|a visit|a session|that|the appointment|one) (take|last)?
        how much time (do I need|does it take|should I plan|will it take|should I allow)?
        (how many minutes|how long) is (it|an appointment|a visit|a session)?
        (does it|will it) take long?
        how long (will|would|do) I (be there|have to stay|need to plan)?
        (is it|will it be) quick?""",
    ),
    "discount": _topic(
        """(Students|Seniors|Children|Pensioners|Members|Kids) (get|have) ({num} percent off|a discount|ten percent off|half price).
        (Students|Seniors|Children|Kids|Pensioners) pay (half|{num} {cur}|half price|nothing).
        There (is|are) (no discounts|a student discount|a family discount).""",
        """(do you have|is there|are there|do you give|do you offer|do I get) (a discount|discounts|any discounts|special offers|any offers|a student discount|a senior discount|reductions|any deals)[ for students| for seniors| for children| for kids]?
        (is it|does it get) cheaper for (students|children|kids|seniors|pensioners|families)?
        (I'm|my son is) a student, (do I get|is there) (a discount|anything off|a reduction)?
        (can I|could I) get (something|anything|money) off?
        what do (kids|children|students|seniors) pay?""",
    ),
    "voucher": _topic(
        """(We sell|You can buy|We have) (gift cards|gift vouchers|vouchers)( at the desk| from {num} {cur}|).
        (Gift cards|Vouchers|Gift vouchers) (are available at the desk|start at {num} {cur}|cost {num} {cur}).""",
        """(do you|can I) (sell|have|buy|get|do) (gift cards|gift vouchers|vouchers|a voucher|a gift card)?
        I (want|need|would like) a (gift card|voucher)[ for a friend| for my wife| as a present].
        (what about|are there) (gift cards|vouchers)?
        (can|could) I (give|get) it as a (gift|present)?""",
    ),
    "languages": _topic(
        """We (also |)speak {lang}( and {lang}|).
        (Our staff|The team|{surname}) (speaks|also speaks) {lang}.""",
        """(do you|does anyone|does someone|can you) (also |)speak {lang}[ there]?
        (what|which) languages (do you speak|are spoken)?
        (my mother|my wife|my husband|he|she) (only |)speaks {lang}[, is that okay].
        (is there|do you have) (someone|anyone) who speaks {lang}?
        (can I|could I) talk to (you|somebody) in {lang}?""",
    ),
    "children": _topic(
        """(Children are welcome|We treat children|We see children|We don't take children|Kids are welcome)(, from the age of {num}|, there is a play corner|).
        There is a (play corner|playroom|play area)[ for children| for the kids].""",
        """(can|could|may) I (bring|take) my (kids|children|son|daughter|baby|child)[ along| with me]?
        (do you|can you) (treat|see|take|do|accept) (children|kids|babies|toddlers)?
        (are|is) (children|kids|babies|a child) (welcome|allowed|okay)?
        (is there|do you have) (something|anything|a play area|a play corner|toys) for (kids|children|the kids)?
        what about (children|kids|my kids)?
        (is it|are you) (okay|good|suitable) for (children|kids)?""",
    ),
    "transit": _topic(
        """(Bus|Tram|Line) {num} stops (outside|at the door|on {street}|in front of the {place}|around the corner).
        (Take|You can take|Come by) (bus|tram|the bus|line) {num} (to|from) (the {place}|{street}|the station).
        The nearest (station|stop|bus stop) is {proper}.""",
        """(which|what) (bus|tram|train|line) (do I take|goes there|should I take|stops there|comes to you)?
        (can|could) I (come|get there|get to you|reach you) by (bus|train|tram|public transport|the bus)?
        (is there|do you have) a (bus|bus stop|stop|station|tram|train) (nearby|there|near you|close by)?
        (where's|where is|what's) the (nearest|closest|next) (stop|bus stop|station|bus)?
        I (don't have|haven't got|don't drive) a car[, how do I get there by bus].
        (what about|how about) (the bus|buses|public transport)?
        I'm coming (by bus|on the bus|by train|with public transport).""",
    ),
    "lunch": _topic(
        """(We close|We are closed|The {trade} is closed) (for lunch|at lunch|over lunch) (from|between) {hour} (to|and|until) {hour}.
        (We have no|There is no) lunch break.
        (Our|The) lunch break is (from|between) {hour} (to|and) {hour}.""",
        """(are you|do you) (open|close|closed|shut) (at|for|over|during) (lunch|lunchtime|the lunch break)?
        (when|what time) is (your|the) lunch break?
        (do you have|is there) a lunch break?
        (can|could) I come (at lunchtime|during lunch|in my lunch break|over lunch)?
        what about (lunch|lunchtime)?""",
    ),
    "walkin": _topic(
        """(You can come|You may come|Come|Feel free to come) without an appointment[ on {weekday}].
        (Walk-ins are|We see people|We work) (welcome|by appointment only|not possible|only with an appointment).
        You need an appointment.""",
        """do I (need|have to have|have to make|need to make|really need) an appointment?
        (can|could|may) I (just |)(walk in|come by|come in|drop in|turn up|show up|pop in) without (an appointment|a booking|booking|calling)?
        (do you|are) (take walk-ins|walk-ins okay|walk-ins welcome|accept walk-ins)?
        (is|can) (it|I) (possible|come) without (an appointment|a booking)?
        (can I|could I|do I) just (turn up|show up|walk in)?""",
    ),
    "deposit": _topic(
        """(We ask for|There is|We take) a deposit of {num} {cur}.
        (No deposit is needed|You pay no deposit|There is no deposit).
        (You pay|Payment is due) (after the visit|at the end|before the visit|in advance).""",
        """(do I|is there) (pay|need|have to pay|need to pay) (a deposit|anything in advance|something up front|up front|now)?
        (is there|do you take|do you want) a deposit?
        (when|at what point) do I (pay|have to pay)?
        do I pay (before|after|in advance|at the end|up front)?
        how much is the deposit?""",
    ),
    "website": _topic(
        """(Our website is|You find us online at|Our web page is|More is on) {web}.
        (You can book|You can also book|Booking is possible) online at {web}.""",
        """(do you have|have you got|what's|what is) (a|the|your) (website|web page|homepage|web address|site)?
        (can|could) I (book|do it|make an appointment|see it) online?
        (are you|where are you|can I find you) (online|on the internet|on the web)?
        (where|how) can I (book|read more|look it up) online?
        is there (online booking|a website|a web page)?""",
    ),
    "drinks": _topic(
        """(We serve|There is|We have|We offer) (free |)(coffee|tea|coffee and tea|water|cold drinks)[ in the waiting room| for guests].
        (There is|We have) a (café|coffee machine|small café|kiosk) (downstairs|inside|next door|on the ground floor).""",
        """(is there|do you have|do you serve|can I get|could I get) (something to drink|coffee|tea|a coffee|drinks|food|a café|anything to eat|water)[ there]?
        (what about|how about) (coffee|drinks|tea|something to drink)?""",
    ),
    "toilet": _topic(
        """(The toilet|The restroom|The bathroom) is (on the left|on the right|next to the entrance|downstairs|at the back|on the first floor).
        (We have|There is) (a|no) (toilet|restroom)[ for customers].""",
        """(is there|do you have|where is|where's) (a|the) (toilet|restroom|bathroom|loo)[ there]?
        (can|could) I use (the|your) (toilet|restroom|bathroom)?""",
    ),
    "since": _topic(
        """(We have been here|The {trade} has been here|We have been in business) (since|for) ({num} years|nineteen ninety|two thousand and {num}).
        (We opened|The {trade} opened) {num} years ago.""",
        """(how long|since when) have you (been there|been open|been in business|existed|been around|been doing this)?
        (when did you|when was it) (open|opened|founded|start)?
        are you new?
        how old is (the {trade}|the company|the business|your place)?""",
    ),
    "wait_time": _topic(
        """(The waiting time|The wait) is (about |)({num} minutes|a week|{num} days|two weeks).
        (You rarely wait|You wait|Most people wait) (about |)({num} minutes|more than {num} minutes).""",
        """how long (is the wait|do I have to wait|will I wait|is the waiting time|do people wait|is the queue)?
        (is there|do you have) a (waiting list|long wait|queue|waiting time)?
        (will|do) I have to wait[ long]?
        (what's|how is) the (wait|waiting time)[ like]?""",
    ),
    "holiday": _topic(
        """(We are closed|The {trade} is closed|We close) (in August|over Christmas|on public holidays|at Easter|the last week of July|between Christmas and New Year).
        (We are open|We stay open|We also open) (on public holidays|over Christmas|all summer|in August).""",
        """(are you|do you) (open|closed|close|work) (on|over|at|during|in) (Christmas|public holidays|bank holidays|the holidays|Easter|August|the summer|New Year)?
        (what about|how about) (Christmas|public holidays|the holidays|bank holidays|Easter|summer|August)?
        when are you on (holiday|vacation)?
        (do you|will you) have (summer holidays|a holiday break|holidays)?""",
    ),
    "guarantee": _topic(
        """(All work|Our work|Everything we do) (has|comes with|carries) a (guarantee|warranty) of ({num} months|a year|two years).
        (We give|You get) (a year's|two years'|no) (guarantee|warranty).""",
        """(is there|do you give|do you have|do I get|does it come with) (a guarantee|a warranty|any guarantee)?
        (how long is|what about) the (guarantee|warranty)?
        (what if|what happens if) (something goes wrong|it breaks again|I'm not happy|I don't like it)?""",
    ),
    "delivery": _topic(
        """We (deliver|pick up|collect|come to your house|make home visits)( for {num} {cur}| in town| on {weekday}s|).
        (We do not|We don't) (deliver|make home visits|come to your house).""",
        """(do you|can you|could you) (deliver|come to my house|come to me|make home visits|do home visits|pick it up|collect it|come to my place|come out)?
        (is there|do you have|what about) (delivery|a delivery service|home visits|a pick-up service)?
        (I can't|my mother can't) (leave the house|come to you)[, can you come here].""",
    ),
    "age": _topic(
        """(You must be|Guests must be|Customers must be) (over |at least |){num}.
        (The minimum age is|We take people from the age of) {num}.""",
        """(how old|what age) (do I|does he|does she|must I|do you) (have|need|must) to be?
        (is there|what is|what's) (an|the) (age limit|minimum age)?
        (am I|is he|is she|is my son|is my daughter) (too young|too old|old enough)?""",
    ),
    "jobs": _topic(
        """(We are hiring|We are looking for staff|We have no jobs|There are no openings)[ at the moment].
        (Send|Please send) (job |)applications to {mail}.""",
        """(are you|is the {trade}) (hiring|looking for people|looking for staff)?
        (do you have|have you got|are there) (any |)(jobs|vacancies|work for me|openings for staff)?
        (can|could|where can) I apply for a job?
        I'm looking for (a job|work)[, do you have anything].""",
    ),
}  # fmt: skip

OUT_OF_DOMAIN = (
    *phrases.CALLER["weather"],
    "what('s| is) the (weather|temperature|forecast) (like |)(today|tomorrow|outside|in {city}|going to be|for the weekend)?",
    "(do I need|should I take) an umbrella[ today]?", "is it (raining|snowing|sunny|cold|hot)[ outside| there| today]?",
    "(can|could|may) I (order|get|have) (a|some|one) ({food})[ please| delivered| to go]?", "I('d like| want| would like) (to order |)(a|some|two) ({food})[, please].",
    "(what's|what is) the (capital|population) of {country}?", "who (is|was) the (president|king|prime minister|queen) of {country}?",
    "(can|could) you (tell|recommend|give) me (a|some) (joke|recipe|story|restaurant|film|book|song|poem|hotel)?", "(tell|sing|read) me (a|another) (joke|story|song|poem).",
    "who (won|is winning|played in) the (match|game|football|race|election|world cup)[ last night| yesterday]?", "(what's|what is) (two|three|seven|nine|twelve) (plus|times|minus) (two|three|eight|six)?",
    "(what's|what is) the (time|date)[ now| today| please]?", "(can|could) you (book|order|call|get) me (a taxi|a cab|an uber|a flight|a hotel room|a table|a train ticket|a rental car)?",
    "I need (a taxi|a flight to {city}|a plumber|a lawyer|a hotel|directions to {city}|a train to {city})[, please].", "(what|which) (film|movie|show) is on[ tonight]?", "(do you|can you) (sell|have) ({food}|{goods})?",
    "(how do I|how can I|can you help me to|could you help me) (fix|repair|reset|clean|install|sell) my ({goods})?", "what do you think (about|of) (politics|football|the government|the news|me)?", "(where can I|do you know where I can) buy ({goods}|{food})?",
    "(can|could) you (translate|write|spell|play) (something|a letter|some music|this|that)[ for me]?", "(I love you|will you marry me|do you like me|are you married)[?].", "how (far|old|big) is (the moon|the sun|{city}|the earth)?",
    "(play|put on) some music[, please].", "(what's|how's) the (traffic|stock market|exchange rate)[ like| today]?", "my ({goods}) (is broken|doesn't work|won't start).", "(help me with|can you do) my (homework|taxes|shopping|tax return)[, please]?",
    "when is the next (train|bus|flight|ferry)[ to {city}]?", "(set|turn on|turn off) (an alarm|the light|the lights|the heating|a timer)[, please].", "(I'm|I am) (hungry|bored|tired|lonely|lost|sad).", "(who|what) is {celebrity}?", "can I speak to {celebrity}?",
)  # fmt: skip
