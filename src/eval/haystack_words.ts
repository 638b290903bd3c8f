/**
 * The words and sentence forms of the haystack. A name in braces stands for a word of that list;
 * see haystack.ts.
 *
 * @module
 */

const list = (text: string): readonly string[] =>
  text.trim().split(/\s*\|\s*/).map((form) => form.replace(/\s+/g, " "));
const words = (text: string): readonly string[] => text.trim().split(/\s+/);

/** Lists of words and phrases by name. */
export const WORDS = {
  // Needles: words that the embedded model's needles were made of.
  keyAdjective: words(`
    ancient amber arctic bitter black blue bold brave bright bronze brown calm careful clever cold
    copper cosmic crimson curious dark distant dusty eager early elegant fading fair famous fast
    fierce final foggy fragile fresh frosty frozen gentle giant gilded golden grand green grey happy
    hidden hollow humble icy jolly keen large late lively lonely loud loyal lucky merry mighty misty
    modest narrow nimble noble northern odd old orange pale patient plain proud purple quaint quick
    quiet rapid rare restless ripe royal ruby rustic salty scarlet secret shady sharp shiny silent
    silver simple sleepy slow small smooth snowy soft solemn solid southern stern still stormy
    strange strong sturdy subtle sudden sunny sweet swift tall tender thin tidy tiny velvet violet
    vivid wandering warm weary western white wild windy wise witty wooden yellow young zealous`),
  keyNoun: words(`
    acorn anchor apple arrow atlas badger banner barn basket beacon bear beaver bell berry blanket
    blossom boat bottle branch brick bridge broom bucket cabin camel candle canyon carpet castle cave
    cedar chain chapel cherry cliff clock cloud comet coral cottage crane creek cricket crown crystal
    daisy desert diamond donkey dove dragon drum eagle ember engine falcon feather fence fern flute
    forest fountain fox frog garden garnet ghost glacier goat grape grove guitar hammer harbor hawk
    heron hill island ivory jewel jungle kettle kite lake lamp lantern lark lemon lily lion lizard
    lynx maple marble meadow melon mill mirror monkey mountain mouse needle nest oak ocean olive
    onion orchard otter owl parrot peach peacock pearl pebble pepper pigeon pillow pine planet plum
    pocket pond poppy prism rabbit raven reed ribbon river robin rocket rose sail salmon shadow sheep
    shell ship sparrow spider spoon spring squirrel star stone swallow swan sword temple thorn
    thunder tiger tower trumpet tulip turtle valley vine violin wagon walnut whale wheel willow
    window wolf wren`),
  city: words(`
    London Paris Rome Berlin Madrid Lisbon Vienna Athens Dublin Oslo Prague Warsaw Moscow Cairo Tokyo
    Delhi Boston Chicago Seattle Toronto Quebec Havana Lima Sydney Perth Nairobi Tunis Damascus
    Baghdad Lahore Hanoi Manila Shanghai Canton Geneva Zurich Milan Turin Venice Naples Seville
    Toledo Porto Rouen Calais Antwerp Bruges Utrecht Hamburg Dresden Munich Cologne Stockholm Riga
    Odessa Sofia Belgrade Budapest Glasgow Cardiff Belfast Oxford Bristol Exeter Norwich Memphis
    Savannah`),
  advice: words(`
    eat drink buy sell read write paint draw build repair carry throw catch watch follow feed wash
    polish collect count weigh open close hide find plant cook bake taste borrow return visit climb
    cross sketch describe guard bury`),
  month: words(`January February March April May June July August September October November
    December`),

  // Prose.
  surname: words(`
    Aldous Arkwell Ashdown Barrowby Bellamy Birtwhistle Blackmore Brackley Bramhall Burnside Calloway
    Carrick Chalmers Clavering Colby Cranleigh Danbury Dashwick Delacourt Dorrimer Ellingham Fairley
    Fanshaw Farthing Gadsby Garland Gilchrist Greaves Halloran Harcastle Hartop Haverill Hawtrey
    Holloway Ingram Jessop Kestrel Lambourne Langdale Larkin Lorimer Lovelock Mallory Marchmont
    Merriman Molyneux Norbury Oakshott Ormerod Pargeter Pemberton Penrose Prideaux Quillan Radcliffe
    Rainsford Ridley Rossiter Sallow Seaton Selwyn Shardlow Standish Stourton Tancred Thorley
    Tremaine Trevanion Underhill Vardon Vesey Wadham Waverton Wetherall Whitlock Winterbourne
    Wyndham Yelverton`),
  titleOfMen: list(`Mr.|Mr.|Mr.|Captain|Colonel|Doctor|old|young|Sir Edmund|Squire|Parson|the elder
    |cousin|Major|Uncle`),
  titleOfWomen: list(`Mrs.|Miss|Miss|Lady|Miss Eleanor|old Mrs.|young Mrs.|Aunt|Madame|the widow
    |Miss Harriet|poor Miss`),
  place: list(`the rectory|the old mill|Thornby Hall|the inn at the crossroads|the harbour|the lodge
    |the counting-house|the farm beyond the common|the abbey|the village of Stowe Marsh|the manor
    |the lighthouse|the parsonage|the house in Fenner Street|the shooting-box|the curate's lodgings
    |the great house on the hill|the market town|the ferry|the schoolroom|the toll-gate|Wexcombe Park
    |the shipping office|the almshouses|the dower house|the hospital by the river`),
  noun: words(`
    letter carriage window candle portrait garden staircase umbrella parcel newspaper teapot mirror
    fireplace ledger curtain hedge orchard kettle bonnet waistcoat spectacles lantern violin trunk
    bookcase clock bell gate footpath hearthrug inkstand decanter sofa snuff-box will testament
    manuscript map bureau cupboard balcony pianoforte terrier pony coachman milestone churchyard
    chimney paving-stone saddle whip telescope barometer bundle cradle necklace locket miniature
    sermon bill receipt knapsack walking-stick shawl muff pocket-book almanack drawing-room parlour
    cellar attic stable pantry doorstep lamp-post bridge ferry-boat anchor sail chart compass
    anvil loom spinning-wheel basket haystack barn well-rope pitcher loaf pudding goose`),
  quality: words(`
    faded handsome shabby curious ancient narrow heavy melancholy splendid unfinished neglected
    polished crooked modest dusty cheerful gloomy enormous delicate borrowed mended foreign familiar
    forgotten excellent doubtful respectable damp tattered gilded silent weather-beaten elegant
    disagreeable precious homely sombre ill-made well-worn ordinary remarkable`),
  feeling: words(`
    kindness sorrow vexation pride gratitude astonishment regret composure impatience tenderness
    anxiety contempt satisfaction bitterness good-humour resignation curiosity shame despondency
    relief suspicion admiration weariness hope dread indifference`),
  idea: words(`
    fortune marriage duty friendship money poverty honour ambition solitude prudence liberty
    memory ignorance affection justice vanity patience old-age travel music conversation economy
    charity reputation silence`),
  adverb: words(`
    gravely softly hastily quietly bitterly gently cheerfully coldly slowly earnestly carelessly
    politely solemnly drily warmly abruptly timidly resolutely absently kindly stiffly`),
  trade: list(`a lawyer|a clergyman|a corn-merchant|an apothecary|a schoolmaster|a sea-captain
    |a governess|a bookseller|a magistrate|a younger son|a person of property|a gamekeeper
    |a clerk in the City|a dealer in horses|a land-agent|a milliner|a pensioned soldier|a surveyor
    |an organist|a builder of bridges`),
  kin: list(`brother|sister|father|mother|uncle|aunt|nephew|niece|guardian|eldest son|godson
    |cousin|godmother|grandfather|old nurse|partner|tenant|neighbour`),
  season: list(`in the spring|that autumn|all that summer|late in November|about Michaelmas
    |before Christmas|in the wet June of that year|at the time of the hay harvest|towards Easter
    |in the coldest week of the winter|on the first fine day of March|a little after harvest`),
  hour: list(`at daybreak|before breakfast|towards noon|after dinner|at dusk|when the lamps were lit
    |about tea-time|late in the evening|after midnight|at the striking of the hour|in the forenoon
    |just before the post went out|when the household was asleep|while the servants were at church`),
  weather: list(`the rain had ceased|a thin mist lay over the fields|the wind had gone round to the
    east|it was snowing heavily|the sun stood low behind the elms|there was a hard frost on the ground
    |the roads were deep in mud|the evening was close and still|a storm was coming up from the sea
    |the first swallows had been seen|the river had risen in the night|the leaves were falling fast
    |not a star was to be seen|the moon had risen over the stable roof`),
  motion: list(`walked|rode|hurried|drove|went|came|strolled|was carried|returned|set out|crept
    |was sent|ran`),
  toPlace: list(`to {place}|as far as {place}|back to {here}|across the common|through the orchard
    |down the lane|along the river|up the narrow stairs|into the garden|out upon the terrace
    |over the bridge|past the churchyard|into the town|towards the harbour|round by {place}`),
  said: list(`said|replied|cried|answered|returned|observed|began|remarked|exclaimed|murmured
    |continued|repeated`),
  told: list(`told|assured|reminded|informed|persuaded|convinced`),
  thought: list(
    `it could not be helped|the matter had better be left alone|there had been some mistake
    |{b.he} had been ill-used|nothing good would come of it|{b.he} knew more than {b.he} would say
    |the whole story was an invention|the money had never been paid|it was too late to turn back
    |{b.he} was not so simple as {b.he} seemed|they would meet again before the year was out
    |a plain answer would serve best|the house must be sold|such {idea} was not worth the price of it
    |{b.he} had been speaking the truth all along|one might be happy with much less
    |the {noun} had been in {here} for years|the journey would do {a.him} good
    |{b.his} {kin} ought to be told|there was no harm in waiting until the morning`,
  ),
  deed: list(`took up the {noun}|looked for some time at the {quality} {noun}|closed the door behind
    {a.him}|laid the {noun} upon the table|stirred the fire|turned away from the window|folded the
    letter|sat down beside the {noun}|put on {a.his} spectacles|rang the bell|gave the {noun} to {B}
    |made no answer|leaned upon the {quality} {noun}|counted the coins once more|lit another candle
    |shook {a.his} head|drew {a.his} chair nearer to the hearth|began to search for the {noun}
    |bowed {adverb}|poured out a second cup of tea|tore the paper across|knocked at the door of
    {here}|turned over the leaves of a {quality} book|burst into tears|laughed {adverb}
    |wound up the clock|went on with {a.his} work|threw the {noun} into the fire
    |stood for a long while before the {quality} {noun}|held out {a.his} hand to {B}`),
  clause: list(`though {a.he} said nothing of it to {B}|for {a.he} had slept badly
    |as if {a.he} had forgotten where {a.he} was|while {B} {deedB}|which {B} had not expected
    |because {thought}|and thought of {a.his} {kin}|in spite of what {B} had told {a.him}
    |with more {feeling} than {a.he} cared to show|without so much as a glance at the {noun}
    |as {trade} might have done|and for the first time in years felt something like {feeling}
    |until {weather}|as people will who have known {feeling}|and {weather}
    |with the air of {trade}|not without {feeling}|so that even {B} was silent
    |since there was nothing more to be learned at {here}`),
  deedB: list(`looked on with {feeling}|went to see after the {noun}|read the letter aloud
    |waited at {here}|was asleep by the fire|talked of {idea}|stood at the {noun}|sat very upright
    upon the sofa|mended a {quality} {noun}|walked up and down the room|said {adverb} that {sayingB}`),
  sayingB: list(`it was of no consequence|dinner was upon the table|the {noun} was broken
    |{trade} had called|the horses were lame|{b.he} must be gone by the morning
    |{b.his} {kin} had always said so|nobody could be blamed for it`),
  maxim: list(`there is no {feeling} so lasting as that which follows upon {idea}|{idea} is seldom
    to be had without {feeling}|a man who speaks much of {idea} has commonly little of it
    |the world is slow to forgive {feeling} and quick to forget {idea}
    |those who have been long in want of {idea} do not always know what to do with it
    |what passes for {feeling} in a great house is called {feeling} in a small one
    |where {idea} goes out at the door, {feeling} comes in at the window
    |it is easier to part with {idea} than with a {quality} {noun}
    |nobody is so much to be pitied as a person who has nothing but {idea}`),
  utterance: list(`I have never seen so {quality} a {noun} in my life|you must not think of it again
    |tell me what became of the {noun}|my {kin} would not have allowed it|there is somebody at the
    {noun}|I had rather be poor than owe it to {idea}|we were speaking of {idea}, I believe
    |I found the {noun} in the {quality} bureau at {here}|I do not understand you|it was sold with the
    rest of the furniture|you are very good, and I am obliged to you|she has been gone these three
    weeks|he was {trade} before he came into the property|nothing was ever said to me of any {noun}
    |let us have no more of {idea}|{maxim}|I shall go {toPlace} in the morning, whatever happens
    |pray sit down and tell me about your {kin}|I give you my word that I know nothing
    |I am too old for {feeling}|the roads are not fit for a dog|if it is {idea} that you want, you
    have come to the wrong house|that {noun} belonged to my {kin}|you will catch your death of cold`),
  opening: list(
    `it must be owned that|the truth is that|I have heard it said that|it is certain that
    |and yet|so it came about that|they say at {here} that|it will be remembered that|meanwhile
    |on the whole it was no wonder that|whether for {idea} or for {feeling},|as for {idea},
    |by some accident or other|in those days|to speak plainly,|on the other hand
    |for want of anything better,|to the general {feeling}|one thing was clear:
    |in the presence of {trade}|when all was done,|but it happened that`,
  ),
  call: list(
    `my dear|sir|madam|my good friend|upon my word|indeed|to be sure|heaven help us|I assure
    you|depend upon it|my dear child|for shame`,
  ),
} as const satisfies Record<string, readonly string[]>;

/** Sentences that tell. */
export const SCENES: readonly string[] = list(`
  {A} {deed}, {clause}.
  |{A} {deed} and {deed}.
  |{hour} {A} {motion} {toPlace}, {clause}.
  |{season} {A} {motion} {toPlace} with {B}, and {weather}.
  |{a.he} {deed}, {clause}, and {deed}.
  |{weather}, and {A} {motion} {toPlace}.
  |when {A} {motion} {toPlace}, {B} {deedB}.
  |it seemed to {A} that {thought}.
  |{a.he} told {a.himself} that {thought}, and that {thought}.
  |{maxim}; at least {A} had always found it so.
  |there was in the corner of the room a {quality} {noun}, and beside it a {noun} which had belonged to
  {a.his} {kin}.
  |the {noun} was {quality}, the {noun} was {quality}, and the whole of {here} had an air of {feeling}.
  |{A}, who had been {trade} in {a.his} youth, {deed}.
  |neither {A} nor {B} spoke of {idea} again {season}.
  |{A} had a {kin}, {trade}, who lived at {place} and kept a {quality} {noun} there.
  |not until {weather} did {A} remember the {noun}.
  |the conversation turned upon {idea}, and from {idea} to {idea}, {clause}.
  |{B} looked at {A} with {feeling}, and {A} {deed}.
  |of all that was said {hour} {A} remembered only that {thought}.
  |{a.his} {kin} had left {a.him} nothing but a {quality} {noun} and a great deal of {feeling}.
  |for some minutes nothing was heard but the {noun} and the wind.
  |{A} wrote a long letter to {a.his} {kin}, in which {a.he} said that {thought}.
  |if {B} felt any {feeling}, {b.he} did not show it; {b.he} only asked whether the {noun} was mended.
  |from {place} there came {hour} a message for {A}, that {thought}.
  |what {A} wanted was {idea}; what {a.he} had was a {quality} {noun}.
  |so it was that {A} {motion} {toPlace} {season}, {clause}.
  |the people of {here} said that {thought}, and they said it {adverb}.
  |{A} was not {trade}, nor did {a.he} wish to be taken for one, and {a.he} {deed}.
  |{hour}, while {weather}, {B} {deedB}.
  |{A} remembered how {a.his} {kin} used to sit by the {noun} {hour} and talk of {idea}.
  |{a.he} {deed}; {a.he} {deed}; and then, {hour}, {a.he} {motion} {toPlace}.
  |nothing could have been more {quality} than the {noun} which {A} had bought of {trade} {season}.
  |{B} had been at {place} {season}, and had brought from there a {quality} {noun} and some {feeling}.
  |{A} asked {b.him} whether {thought}, and {B} {deedB}.
  |upon this {B} {deedB}, {clause}.
  |between the {noun} and the {noun} stood {trade}, whom {A} took for the {kin} of {B}.
  |the {quality} {noun} of which {B} had spoken {hour} was nowhere to be found.
  |{a.his} {feeling} gave way to {feeling}, and {a.his} {feeling} to {feeling}.
  |{A} and {B} had known each other since they were children at {place}, and between them {idea} was
  never named.
  |{trade} came {hour} about the {noun}, and was told by {B} that {thought}.
  |there was a time when {A} would have given all {a.his} {idea} for such a {noun}.
  |{B} spoke {adverb} of {idea}; {A} thought of the {noun}, and {deed}.
  |every window of {here} was lit, {weather}, and {A} {deed}.
  |the cost of the {noun} was considerable, and {A}, {clause}, {deed}.
  |{a.he} had {a.his} reasons, of which {idea} was the first and {feeling} the last.
  |two letters lay upon the {noun}, one from {a.his} {kin} and one from {trade}.
  |I never knew {A} to speak of {a.his} {kin} without {feeling}.
`);

/** Sentences that speak. */
export const TALK: readonly string[] = list(`
  "{utterance}," {said} {A} {adverb}.
  |"{utterance}," {said} {A}, "and {utterance}."
  |"{call}," {said} {A}, {clause}, "{utterance}."
  |"{utterance}," {said} {B}. "{call}, {utterance}."
  |"{utterance}?" {said} {A}. "{utterance}!"
  |"{call}!" {said} {B}, and {b.he} looked at the {noun} with {feeling}. "{utterance}."
  |{A} {told} {B} that {thought}. "{utterance}," {said} {B}.
  |"{utterance}; {utterance}," {said} {A}, {clause}.
  |"{call}, {call}," {said} {A}, "{utterance}; but {utterance}."
`);
