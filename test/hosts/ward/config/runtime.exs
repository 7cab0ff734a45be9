import Config

# A ward keeps its events where WARD_DATA says; without it they live as long as the program.
if dir = System.get_env("WARD_DATA"), do: config(:ward, store: {EventSeal.Store.Disk, dir: dir})
config :ward, desk: System.get_env("WARD_DESK") != nil
