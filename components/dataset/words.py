"""Inventories from which the generator composes. Every list was written for it; no real person is meant."""

from __future__ import annotations

from typing import Final

FIRST_STARTS: Final = "Al Ber Car Dan El Fran Gre Han In Jo Kar Le Mar Nor Ol Pet Quin Ro Sa Ta Ul Vik Wen Yas Zo".split()
FIRST_ENDS: Final = "an a ek ia ina is ita na nie o ra rik sa son ta ther us vin".split()
LAST_STARTS: Final = (
    "Ash Bran Cal Dor Eck Fair Gold Hart Iver Jen Kess Lind Mor Nach Oster Pell Quar Rein Stein Thor Ulm Vander West Yard Zim"
).split()
LAST_ENDS: Final = "berg brook dale er feld ford gren hoff ley man mann ner rich sen son stad ton wick wood worth".split()
COMPANY_STARTS: Final = (
    "Acro Blue Cedar Delta Ever Flux Grano Helio Iron Juno Kinet Lumen Mono Nova Orbi Pine Quanta River Sol Terra Umbra Vela"
    " Wave Xeno Yield Zephyr"
).split()
COMPANY_ENDS: Final = "bridge cast core dyne field gate grid lab line logic mark net point scale soft stone tech trade ware works".split()
COMPANY_FORMS: Final = ("GmbH", "Inc.", "Ltd", "AG", "Group", "LLC", "Partners", "")
SCHOOL_PLACES: Final = (
    "Aldermoor Brisworth Castelvane Dunmere Elmsport Farrowby Greyhaven Hollenburg Innsfeld Jarnstad Kelldon Lorchen Merrowick"
    " Nordhagen Oakhaven Pellworm Quarnford Rosenau Stavering Thornbury Ulverton Vesterlund Wexcombe Yarrowdale Zellhausen"
    " Ambersea Brunnental Corvenna Dravik Estermark"
).split()
SCHOOL_FORMS: Final = (
    "University of {}", "{} University", "{} Institute of Technology", "{} College", "Technische Hochschule {}", "{} Business School",
)  # fmt: skip
TOOL_STARTS: Final = (
    "Aero Byte Cloud Data Edge Fast Graph Hyper Info Json Kube Lambda Micro Net Open Py Query Rust Stream Tensor Unit Vector Web"
    " Xml Yarn Zero"
).split()
TOOL_ENDS: Final = "Base Bench Craft DB Flow Forge Frame Hub Jet Kit Lens Mesh Mill Ops Pipe Rail Script Stack Sync Ware".split()
PRACTICES: Final = (
    "agile planning,budget control,code review,cost modelling,data cleaning,demand forecasting,event design,fault analysis,"
    "grant writing,incident response,inventory control,key account care,load testing,market research,network design,"
    "object detection,patent search,quality audits,risk assessment,schema design,service design,statistical modelling,"
    "supply planning,system integration,technical writing,test automation,threat modelling,time series analysis,user interviews,"
    "vendor management,warehouse layout,web analytics,workflow design,yield optimisation,contract drafting,change control,"
    "process mining,release planning,search ranking,text mining"
).split(",")
TITLES: Final = (
    "Software Engineer,Data Analyst,Project Manager,Product Owner,Data Scientist,Network Administrator,Accountant,Sales Manager,"
    "Research Assistant,QA Engineer,Technical Writer,HR Consultant,Marketing Specialist,Business Analyst,DevOps Engineer,"
    "Database Administrator,UX Designer,Team Lead,Operations Manager,Security Analyst,Machine Learning Engineer,Auditor,"
    "Logistics Planner,Customer Success Manager,Systems Architect"
).split(",")
TITLE_RANKS: Final = ("", "", "", "Senior ", "Junior ", "Lead ", "Principal ")
CITIES: Final = (
    "Berlin,Hamburg,Munich,Leeds,Bristol,Austin,Denver,Toronto,Lyon,Porto,Madrid,Milan,Vienna,Zurich,Oslo,Bergen,Aarhus,Malmö,"
    "Tallinn,Riga,Gdansk,Brno,Ljubljana,Athens,Cork,Galway,Dundee,Boston,Seattle,Chicago,Osaka,Busan,Pune,Chennai,Nairobi,Accra"
).split(",")
DEGREES: Final = (
    "B.Sc. Computer Science,M.Sc. Data Science,B.A. Economics,Master of Business Administration,Ph.D. in Physics,"
    "Diploma in Mechanical Engineering,M.A. Linguistics,Bachelor of Engineering,B.Com.,M.Sc. Statistics,"
    "Bachelor of Arts in Design,Ph.D. in Chemistry,Associate Degree in Nursing,Master of Laws,B.Sc. Mathematics"
).split(",")
LANGUAGES: Final = "English,German,French,Spanish,Italian,Polish,Portuguese,Dutch,Hindi,Tamil,Japanese,Korean,Arabic,Swedish".split(",")
LEVELS: Final = ("native", "fluent", "B2", "C1", "basic", "working knowledge", "")
CERTIFICATES: Final = (
    "Certified Scrum Master,Project Management Professional,Six Sigma Green Belt,Certified Cloud Practitioner,ITIL Foundation,"
    "Certified Public Accountant,Certified Ethical Hacker,Prince2 Practitioner,Security Plus,Network Associate Certificate"
).split(",")
AWARDS: Final = (
    "Employee of the Year,Best Paper Award,Dean's List,Hackathon Winner,Young Researcher Prize,Innovation Award,"
    "Volunteer Medal,President's Scholarship"
).split(",")
MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
HEADINGS: Final = {
    "summary": ("Summary", "Profile", "About me", "Profil", "Kurzprofil"),
    "work": ("Experience", "Work History", "Employment", "Berufserfahrung", "Werdegang"),
    "education": ("Education", "Studies", "Ausbildung", "Studium"),
    "skills": ("Skills", "Technical Skills", "Core Skills", "Kenntnisse", "Fähigkeiten"),
    "languages": ("Languages", "Sprachen"),
    "certificates": ("Certifications", "Certificates", "Zertifikate"),
    "awards": ("Awards", "Honours", "Auszeichnungen"),
}
DUTIES: Final = (
    "Reduced the backlog of open tickets by {} percent.",
    "Led a team of {} people across two sites.",
    "Prepared monthly reports for the board.",
    "Took over support for {} customers after the merger.",
    "Introduced weekly reviews and a shared glossary.",
    "Moved the legacy archive to a new platform in {} weeks.",
    "Trained {} new colleagues in their first months.",
    "Kept the budget within limits in every quarter.",
    "Wrote the handbook that the whole department uses.",
)
