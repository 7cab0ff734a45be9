%% The night shift is written in Erlang: the same flows, through the library's Erlang face.
-module(ward_night).
-export([round/2, stays/1, verify/0]).

%% Notes a round at a patient's bed; returns the receipt.
round(Patient, Note) ->
    event_seal:append('Elixir.Ward.Events', flow(Patient),
                      #{'when' => os:system_time(microsecond),
                        where => {geo, 52.52, 13.405},
                        who => <<"nurse/omar">>,
                        kind => <<"round">>,
                        body => Note}).

stays(Patient) ->
    [maps:get(body, Event) || Event <- event_seal:events('Elixir.Ward.Events', flow(Patient))].

verify() ->
    event_seal:verify('Elixir.Ward.Events').

flow(Patient) ->
    <<"patient/", Patient/binary>>.
