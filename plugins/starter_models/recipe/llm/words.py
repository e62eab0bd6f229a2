# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""Words that random businesses are made of: names, streets, trades, services, numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from recipe.domain import NAMES
from recipe.grammar import listed

_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
_ONES = listed("one two three four five six seven eight nine ten eleven twelve")
DIGITS = listed("zero one two three four five six seven eight nine")
MORE_NAMES = listed(
    "Aaron Abigail Agnes Ahmed Aisha Alan Albert Alfred Alison Amanda Amelia Andrea Andrew "
    "Angela Anita Anthony Antonio Arthur Ava Barbara Bella Bernard Beth Bianca Bill Bob "
    "Brenda Bruno Caleb Camila Carla Carlos Caroline Catherine Cecil Charles Chris Christine "
    "Claire Connor Craig Cynthia Daisy Dan Darren Dean Deborah Denise Dennis Derek Donna "
    "Doris Dorothy Duncan Dylan Edith Eleanor Elena Elias Elizabeth Ellen Eric Erin Esther "
    "Eugene Evan Evelyn Faith Fatima Fred Gabriel Gary Gemma Gerald Gina Gloria Greta Gustav "
    "Gwen Hassan Hazel Heather Heidi Holly Howard Ian Ibrahim Ida Ingrid Iris Isabel Ivan Ivy "
    "Jacob Jake Jasmine Jason Jean Jennifer Jenny Jessica Jill Jim Joan Joe Joel John Jonas "
    "Joseph Josh Joyce Juan Judith Judy Justin Karl Katrina Keith Kelly Ken Kim Kurt Kyle "
    "Lars Lauren Leah Lena Leon Leonard Lewis Lily Lisa Logan Lorraine Louis Louise Luis Luke "
    "Lydia Mabel Maggie Malcolm Marcus Margaret Marie Marion Martha Marvin Mary Mason Matilda "
    "Matthew Maya Meera Melissa Mick Mike Miles Mohammed Molly Monica Morgan Nadia Nancy "
    "Natalie Nathan Neil Nick Nigel Nina Norman Omar Owen Pamela Patricia Patrick Paula "
    "Pauline Pedro Penny Philip Phoebe Pia Poppy Priya Quentin Rajesh Ralph Ray Rebecca "
    "Regina Rita Rob Roger Roland Ronald Rory Rose Roy Rupert Ryan Sally Samuel Sandra Scott "
    "Sean Sebastian Sharon Sheila Shirley Sofia Stanley Stella Stephanie Stuart Sylvia Tanya "
    "Tara Ted Terry Theo Tim Tina Toby Tom Tony Tracy Trevor Ursula Valerie Vanessa Vera Vera "
    "Veronica Vincent Viola Walter Wanda Warren Wayne Wendy Wesley Wilma Winston Xavier "
    "Yasmin Yusuf Yvonne Zack Zara"
)
FIRST_NAMES = (*NAMES, *MORE_NAMES)


@dataclass(frozen=True)
class Trade:
    """A kind of business: what it is called, who works there, what it does, why people call."""

    noun: str
    name_words: tuple[str, ...]
    pro: str
    services: tuple[str, ...]
    complaints: tuple[str, ...]


def _trade(noun: str, names: str, pro: str, services: str, complaints: str) -> Trade:
    split = [tuple(part.strip() for part in text.split(",")) for text in (services, complaints)]
    return Trade(noun, tuple(names.split(",")), pro, split[0], split[1])


TRADES = (
    _trade("practice", "Dental,Dental Practice,Dentistry,Smiles,Dental Care", "dentist",
           "check-up,cleaning,filling,crown,whitening,extraction,root canal,X-ray,implant,denture,brace,sealant,veneer",
           "I have a toothache,my tooth hurts,I broke a tooth,I lost a filling,my gums hurt,I have a terrible pain in my tooth,my crown fell out"),
    _trade("salon", "Hair,Hair Studio,Salon,Cuts,Hairdressers", "stylist",
           "haircut,color,blow-dry,perm,beard trim,shave,men's cut,children's cut,highlight,wash,hot towel shave,fringe trim",
           "my hair is too long,I need my hair done,I want a new look,my hair is a mess"),
    _trade("garage", "Motors,Garage,Auto Repair,Car Service,Tyres", "mechanic",
           "oil change,tire change,brake check,inspection,wheel alignment,battery change,car wash,full service,MOT,tune-up,windscreen repair",
           "my car makes a strange noise,my brakes are bad,my car won't start,I have a flat tire,a warning light is on"),
    _trade("clinic", "Vets,Animal Clinic,Pet Care,Veterinary Clinic", "vet",
           "check-up,vaccination,nail trim,microchip,dental cleaning,blood test,grooming,consultation,neutering,flea treatment",
           "my dog is sick,my cat won't eat,my dog is limping,my rabbit needs a doctor,my cat is ill"),
    _trade("clinic", "Clinic,Medical Centre,Family Doctors,Health Centre", "doctor",
           "check-up,consultation,blood test,vaccination,flu shot,physical,travel vaccine,allergy test,health check,home visit",
           "I don't feel well,I have a cold,I have a fever,my back hurts,I have a headache,I feel sick"),
    _trade("studio", "Yoga,Fitness,Pilates Studio,Dance Studio,Gym", "teacher",
           "class,trial class,private lesson,day pass,month pass,personal training,drop-in class,ten-class card,beginner course",
           "I want to get fit,I want to try yoga,I'd like to start training"),
    _trade("shop", "Opticians,Eyewear,Vision,Optics", "optician",
           "eye test,contact lens fitting,frame repair,lens change,sight test,pair of glasses,glasses repair,screening",
           "my glasses are broken,I can't see well,I need new glasses,my eyes are getting worse"),
    _trade("spa", "Spa,Beauty,Wellness,Day Spa,Nails", "therapist",
           "massage,facial,manicure,pedicure,back massage,waxing,sauna visit,body scrub,hot stone massage,eyebrow shaping,gel manicure",
           "I need to relax,my neck is stiff,my nails look awful"),
    _trade("practice", "Physio,Physiotherapy,Chiropractic,Osteopathy,Back Care", "therapist",
           "first visit,treatment,sports massage,assessment,follow-up,back treatment,acupuncture session,posture check",
           "my back is killing me,my knee hurts,I hurt my shoulder,I can't turn my neck"),
    _trade("studio", "Photo,Photography,Portraits,Pictures", "photographer",
           "portrait,family portrait,passport photo,wedding shoot,baby shoot,application photo,framing,print",
           "I need a passport photo,we'd like pictures of the baby"),
    _trade("school", "Driving School,Music School,Language School,Tutoring", "teacher",
           "lesson,trial lesson,double lesson,theory class,exam,piano lesson,guitar lesson,course,group lesson",
           "I want to learn the piano,I'd like to learn to drive,my son needs lessons"),
    _trade("office", "Law,Legal,Accounting,Tax Advice,Notary", "adviser",
           "consultation,first meeting,tax return,will,contract check,signature,notarization,business plan",
           "I need some legal advice,I need help with my taxes,I got a letter from a lawyer"),
    _trade("workshop", "Bikes,Bicycle Repair,Cycle Works,Phone Repair,Watch Repair", "mechanic",
           "repair,tune-up,screen repair,battery change,tire change,brake repair,strap change,service,fitting,inspection",
           "my bike is broken,my screen is cracked,my watch stopped,I have a flat"),
    _trade("groomers", "Dog Grooming,Paws,Pet Grooming,Pet Salon", "groomer",
           "wash,full groom,nail clip,puppy groom,haircut,ear cleaning,de-shedding,bath",
           "my dog is dirty,my dog needs a bath,my poodle needs a trim"),
    _trade("tattoo studio", "Ink,Tattoo,Piercing", "artist",
           "tattoo,small tattoo,piercing,touch-up,consultation,cover-up,ear piercing,design",
           "I want a tattoo,my daughter wants her ears pierced"),
    _trade("cleaners", "Dry Cleaning,Laundry,Tailors,Alterations", "tailor",
           "shirt,suit,dress,coat,alteration,hem,zip repair,wedding dress fitting,fitting",
           "my suit needs cleaning,my trousers are too long,the zip on my jacket broke"),
)  # fmt: skip

NOUNS = listed(
    "garden terrace library sauna pool kitchen shuttle locker shower elevator charger printer "
    "projector cinema museum balcony fireplace piano gym workshop newsletter membership "
    "raffle breakfast brunch buffet bar lounge roof cellar gallery lab scanner laser camera "
    "locker mailbox helmet towel umbrella blanket slippers robe stroller crib bicycle scooter "
    "boat tent app points card stamp certificate diploma license receipt invoice contract "
    "manual brochure catalogue poster sticker mug shirt cap bag bottle candle soap shampoo "
    "cream perfume lotion brush comb dryer razor polish serum mask oil honey jam bread cake "
    "flowers plants seeds tools paint wood carpet curtain lamp mirror chair sofa table bed "
    "desk shelf clock radio television telephone tablet laptop keyboard headphones speaker "
    "battery cable adapter lens frame filter training seminar lecture concert party tour show "
    "exhibition competition festival market"
)
STREET_WORDS = listed(
    "Mill Church Station Park High Oak Elm Maple River Bridge King Queen Market Castle Hill "
    "Garden Lake Forest Harbour Rose Victoria Albert Cedar Pine Willow Spring Abbey Canal "
    "Orchard Meadow Chapel School Windsor North South West East Main Union Liberty Washington "
    "Baker Cherry Birch Linden Sunset Ocean Valley Ridge Stone Silver Copper Granite Juniper "
    "Poplar"
)
STREET_TYPES = listed("Street Street Road Lane Avenue Square Drive Way Place Close Hill Row")
PLACES = (
    "station library post office church supermarket park town hall museum bakery bank cinema "
    "school hospital market fountain bridge pharmacy theatre bus station fire station old mill "
    "swimming pool playground court house gas station shopping centre".replace(
        "post office", "post_office"
    )
    .replace("town hall", "town_hall")
    .replace("bus station", "bus_station")
    .replace("fire station", "fire_station")
    .replace("old mill", "old_mill")
    .replace("swimming pool", "swimming_pool")
    .replace("court house", "court_house")
    .replace("gas station", "gas_station")
    .replace("shopping centre", "shopping_centre")
).split()
BRAND_WORDS = listed(
    "Larkspur Riverside Sunny Green Blue Golden Silver Royal Harbour Hilltop Corner City "
    "Central Oakwood Maple Willow Bright Fresh Happy Gentle Swift Prime Star Crystal Amber "
    "Coral Ivory Scarlet Velvet Lotus Lavender Jasmine Magnolia Clover Fern Heron Falcon "
    "Robin Swallow Fox Bear Otter Lion Phoenix Atlas Nova Luna Aurora Summit Valley Meadow "
    "Brook Lakeside Seaside Parkview Northgate Southside Westfield Eastwood Kingsway "
    "Queensgate Old_Town Station Bridge"
)
SURNAMES = listed(
    "Smith Jones Brown Taylor Wilson Davies Evans Thomas Johnson Roberts Walker Wright "
    "Robinson Thompson White Hughes Edwards Green Hall Wood Harris Lewis Martin Jackson "
    "Clarke Clark Turner Hill Cooper Morris Ward Moore King Watson Baker Harrison Morgan "
    "Patel Young Allen Mitchell Khan Lee Garcia Lopez Nguyen Kim Chen Singh Murphy Kelly Ryan "
    "Schmidt Weber Rossi Novak Silva"
)
LANGUAGES = listed("Spanish French German Italian Polish Turkish Arabic Chinese Hindi Portuguese")
FOODS = listed(
    "pizza,burger,sandwich,cheeseburger,salad,curry,bottle of wine,beer,kebab,sushi,chocolate "
    "cake,box of eggs,bunch of flowers,large pizza,pepperoni pizza,ice cream,soup",
    ",",
)
GOODS = listed(
    "computer,washing "
    "machine,phone,laptop,fridge,sofa,house,guitar,tickets,shoes,milk,television,bread,batteries,lottery "
    "ticket,printer,lawn mower,dishwasher,piano,furniture",
    ",",
)
CITIES = listed("London Paris New_York Berlin Rome Madrid Chicago Boston Sydney Dublin Tokyo")
COUNTRIES = listed("France Spain Germany Italy Japan Brazil Canada Australia Norway Peru Egypt")
CURRENCIES = ("dollars", "dollars", "dollars", "pounds", "euros")

_ONSETS = listed("b br c ch cl d dr f fl g gl gr h j k l m n p pl qu r s sh st t th tr v w z")
_VOWELS = listed("a e i o u ai ee oa ou ia")
_CODAS = listed("n m l r s t k d x nd rt st ng ck lm")


def number(rng: random.Random, low: int = 1, high: int = 99) -> str:
    """A number in words; round ones are the more frequent."""
    value = rng.randint(low, high)
    if value > 20 and rng.random() < 0.5:
        value -= value % 5
    return spell(value)


def spell(value: int) -> str:
    """A number from 1 to 999 in words."""
    if value >= 100:
        rest = f" and {spell(value % 100)}" if value % 100 else ""
        return f"{_ONES[value // 100 - 1]} hundred{rest}"
    if value <= 12:
        return _ONES[value - 1]
    if value < 20:
        return {13: "thirteen", 15: "fifteen", 18: "eighteen"}.get(
            value, _ONES[value - 11] + "teen"
        )
    return _TENS[value // 10 - 2] + (f"-{_ONES[value % 10 - 1]}" if value % 10 else "")


def made_up(rng: random.Random, syllables: int = 0) -> str:
    """A pseudo-word with a capital, so that copying is learned and not the list of names."""
    word = ""
    for _ in range(syllables or rng.choice((2, 2, 3))):
        word += rng.choice(_ONSETS) + rng.choice(_VOWELS)
    return (word + rng.choice(("", *_CODAS))).capitalize()


def caller_name(rng: random.Random) -> str:
    """A first name: frequent, rare or made up; at times with a surname, or a title and a surname."""
    draw = rng.random()
    if draw < 0.09:
        title = rng.choice(("Mr.", "Mrs.", "Mrs.", "Ms.", "Miss", "Dr.", "Mr", "Mrs"))
        return f"{title} {rng.choice(SURNAMES) if rng.random() < 0.5 else made_up(rng)}"
    if draw < 0.36:
        name = rng.choice(NAMES)
    elif draw < 0.62:
        name = rng.choice(MORE_NAMES)
    elif draw < 0.7:
        name = _spelled(rng)
    else:
        name = made_up(rng)
    if rng.random() < 0.08:
        name += " " + (rng.choice(SURNAMES) if rng.random() < 0.6 else made_up(rng))
    return name


def _spelled(rng: random.Random) -> str:
    """A name of any letters, as they stand together in no English word."""
    letters = ""
    while len(letters) < 3 or (rng.random() < 0.75 and len(letters) < 9):
        letters += rng.choice("bcdfghjklmnprstvwyz") * rng.choice((0, 1, 1)) + rng.choice(
            "rzlhnsk"
        ) * rng.choice((0, 0, 1))
        letters += rng.choice("aaeeiioouy")
    return (letters + rng.choice(("", "", "k", "rz", "sh", "n"))).capitalize()


def street(rng: random.Random) -> str:
    """A street's name."""
    first = rng.choice(STREET_WORDS) if rng.random() < 0.6 else made_up(rng)
    return f"{first} {rng.choice(STREET_TYPES)}"


def spoken_digits(rng: random.Random) -> str:
    """A telephone number as it is spoken, digit by digit."""
    groups = rng.choice(((3, 4), (3, 3, 4), (2, 3, 3)))
    return ", ".join(" ".join(rng.choice(DIGITS) for _ in range(n)) for n in groups)
