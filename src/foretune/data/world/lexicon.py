"""The words of the world: a small, consistent vocabulary that every generator draws from."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words("anna maria lena nora ella rosa clara emma julia sara ida vera olga kate lucy mina tara zoe")
MEN = _words("tom paul david leo max john peter omar felix hugo ivan karl liam marco nils oscar sam theo")
NAMES = WOMEN + MEN
CITIES = _words("paris london berlin rome madrid oslo vienna prague dublin lisbon athens cairo tokyo lima delhi boston")
COLOURS = _words("red blue green black white yellow brown grey pink orange")
ANIMALS = _words("cat dog horse bird fish rabbit cow sheep goat duck fox bear mouse wolf frog hen")
FOODS = _words("bread cheese apple soup rice cake honey milk egg pasta salad tea coffee lemon potato butter")
JOBS = _words("doctor teacher farmer baker painter driver nurse singer cook writer pilot judge")
OBJECTS = _words("key ring book hat coin map letter bag cup stamp flag pen")
PRODUCTS = _words("lamp chair phone desk camera jacket kettle printer router tablet bike mixer sofa clock heater fan")
PLACES = _words("market park library station school museum garden harbour bridge theatre")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
PETS = _words("milo luna rex bella coco daisy kiki simba")
BRANDS = _words("nova arco delta orion vega lumo kora zento")
FEELINGS = _words("sad tired angry worried happy calm proud afraid")
SIZES = _words("small big old new heavy light")
NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten")

GOOD = _words("great wonderful excellent lovely perfect amazing brilliant fantastic")
BAD = _words("terrible awful horrible poor bad useless broken disappointing")
PLAIN = _words("okay average normal usual ordinary standard plain fine")

LABEL_WORDS = _words(
    "alpha beta gamma delta stone river cloud tiger eagle north south east west up down left right hot cold yes no "
    "one two three x y z foo bar zip sun moon star gold iron tree leaf rock wave"
)
KEY_WORDS = _words("a b c d k v id key val info data part item note tag slot")

GROUPS: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "colour": COLOURS,
    "food": FOODS,
    "job": JOBS,
    "city": CITIES,
    "name": NAMES,
    "day": DAYS,
    "product": PRODUCTS,
}

PLAIN_WORDS = ANIMALS + COLOURS + FOODS + JOBS + OBJECTS + PRODUCTS + PLACES + SIZES
ANY_WORDS = PLAIN_WORDS + CITIES + NAMES + FEELINGS + GOOD + BAD + LABEL_WORDS
