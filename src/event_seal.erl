%% @doc EventSeal for hosts written in Erlang: the verbs of the Elixir module `EventSeal', under the same names.
%%
%% Flows, kinds and other texts are binaries; an event is a map with the keys `when', `where', `who', `kind', `version'
%% and `body'. Receipts, events, verdicts and errors come back as Elixir's structs, which are maps:
%%
%%     {ok, #{euid := Euid}} = event_seal:append(clinic, <<"patient/42">>, #{'when' => 0, kind => <<"vital">>}),
%%     {error, #{reason := settled}} = event_seal:retract(clinic, <<"patient/42">>, Euid).
-module(event_seal).

-export([child_spec/1, start_link/1]).
-export([append/3, append/4, append_many/2, amend/4, amend/5, retract/3, retract/4]).
-export([settle/2, seal/2, close/2, close/3, await_fixed/3, await_fixed/4]).
-export([event/3, events/2, events/3, fold/4, fold/5, head/2, flows/1, flows/2, verify/1, verify/2]).
-export([checkpoint/1, coverage/2, prove/3, prove/4, packet/2, packet/3, health/1]).
-export([witness_request/2, add_cosignatures/3, stamp_request/1, stamp_request/2, add_stamp/4]).
-export([verify_receipt/2, kept/3]).

-export_type([name/0, flow/0, euid/0, event_in/0, event/0, receipt/0, error/0, options/0]).

-type name() :: atom().
-type flow() :: binary().
%% 16 bytes.
-type euid() :: <<_:128>>.
-type event_in() :: #{'when' := integer(),
                      kind := binary(),
                      where => nil | {place, binary()} | {geo, number(), number()},
                      who => nil | binary(),
                      version => 0..65535,
                      body => binary()}.
-type event() :: 'Elixir.EventSeal.Event':t().
-type receipt() :: 'Elixir.EventSeal.Receipt':t().
-type error() :: {error, 'Elixir.EventSeal.Error':t()}.
-type options() :: [{atom(), term()}].

-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) -> 'Elixir.EventSeal':child_spec(Options).

-spec start_link(options()) -> supervisor:startlink_ret().
start_link(Options) -> 'Elixir.EventSeal':start_link(Options).

-spec append(name(), flow(), event_in()) -> {ok, receipt()} | error().
append(Name, Flow, Event) -> append(Name, Flow, Event, []).

-spec append(name(), flow(), event_in(), options()) -> {ok, receipt()} | error().
append(Name, Flow, Event, Options) -> 'Elixir.EventSeal':append(Name, Flow, Event, Options).

-spec append_many(name(), [{flow(), event_in()} | {flow(), event_in(), options()}]) -> {ok, [receipt()]} | error().
append_many(Name, Items) -> 'Elixir.EventSeal':append_many(Name, Items).

-spec amend(name(), flow(), euid(), map()) -> {ok, receipt()} | error().
amend(Name, Flow, Euid, Changes) -> amend(Name, Flow, Euid, Changes, []).

-spec amend(name(), flow(), euid(), map(), options()) -> {ok, receipt()} | error().
amend(Name, Flow, Euid, Changes, Options) -> 'Elixir.EventSeal':amend(Name, Flow, Euid, Changes, Options).

-spec retract(name(), flow(), euid()) -> {ok, receipt()} | error().
retract(Name, Flow, Euid) -> retract(Name, Flow, Euid, []).

-spec retract(name(), flow(), euid(), options()) -> {ok, receipt()} | error().
retract(Name, Flow, Euid, Options) -> 'Elixir.EventSeal':retract(Name, Flow, Euid, Options).

-spec settle(name(), flow()) -> {ok, non_neg_integer()} | error().
settle(Name, Flow) -> 'Elixir.EventSeal':settle(Name, Flow).

-spec seal(name(), flow()) -> {ok, non_neg_integer()} | error().
seal(Name, Flow) -> 'Elixir.EventSeal':seal(Name, Flow).

-spec close(name(), flow()) -> {ok, receipt()} | error().
close(Name, Flow) -> close(Name, Flow, []).

-spec close(name(), flow(), options()) -> {ok, receipt()} | error().
close(Name, Flow, Options) -> 'Elixir.EventSeal':close(Name, Flow, Options).

-spec await_fixed(name(), flow(), euid()) -> {ok, event()} | error().
await_fixed(Name, Flow, Euid) -> await_fixed(Name, Flow, Euid, []).

-spec await_fixed(name(), flow(), euid(), options()) -> {ok, event()} | error().
await_fixed(Name, Flow, Euid, Options) -> 'Elixir.EventSeal':await_fixed(Name, Flow, Euid, Options).

-spec event(name(), flow(), euid() | pos_integer()) -> {ok, event()} | error().
event(Name, Flow, EuidOrPosition) -> 'Elixir.EventSeal':event(Name, Flow, EuidOrPosition).

%% @doc All events of a flow in a list; `fold/4' holds one block at a time. Both raise an `EventSeal.Error'.
-spec events(name(), flow()) -> [event()].
events(Name, Flow) -> events(Name, Flow, []).

-spec events(name(), flow(), options()) -> [event()].
events(Name, Flow, Options) -> 'Elixir.Enum':to_list('Elixir.EventSeal':stream(Name, Flow, Options)).

-spec fold(fun((event(), Acc) -> Acc), Acc, name(), flow()) -> Acc.
fold(Fun, Acc, Name, Flow) -> fold(Fun, Acc, Name, Flow, []).

-spec fold(fun((event(), Acc) -> Acc), Acc, name(), flow(), options()) -> Acc.
fold(Fun, Acc, Name, Flow, Options) -> 'Elixir.Enum':reduce('Elixir.EventSeal':stream(Name, Flow, Options), Acc, Fun).

-spec head(name(), flow()) -> {ok, map()} | error().
head(Name, Flow) -> 'Elixir.EventSeal':head(Name, Flow).

%% @doc Up to 1,000 flow ids from the first, in byte order; the next page is asked for with `[{'after', LastFlow}]'.
-spec flows(name()) -> [flow()].
flows(Name) -> flows(Name, []).

-spec flows(name(), options()) -> [flow()].
flows(Name, Options) -> 'Elixir.Enum':take('Elixir.EventSeal':flows(Name, Options), proplists:get_value(page, Options, 1000)).

-spec verify(name()) -> {ok, 'Elixir.EventSeal.Verdict':t()} | error().
verify(Name) -> verify(Name, []).

-spec verify(name(), options()) -> {ok, 'Elixir.EventSeal.Verdict':t()} | error().
verify(Name, Options) -> 'Elixir.EventSeal':verify(Name, Options).

%% @doc Signs a checkpoint of the store-wide log; its `note' is to be kept elsewhere.
-spec checkpoint(name()) -> {ok, 'Elixir.EventSeal.Checkpoint':t()} | error().
checkpoint(Name) -> 'Elixir.EventSeal':checkpoint(Name).

-spec coverage(name(), flow()) -> {ok, map()} | error().
coverage(Name, Flow) -> 'Elixir.EventSeal':coverage(Name, Flow).

-spec prove(name(), flow(), pos_integer()) -> {ok, binary()} | error().
prove(Name, Flow, N) -> prove(Name, Flow, N, []).

-spec prove(name(), flow(), pos_integer(), options()) -> {ok, binary()} | error().
prove(Name, Flow, N, Options) -> 'Elixir.EventSeal':prove(Name, Flow, N, Options).

-spec witness_request(name(), non_neg_integer()) -> {ok, binary()} | error().
witness_request(Name, Size) -> 'Elixir.EventSeal':witness_request(Name, Size).

-spec add_cosignatures(name(), binary(), options()) -> {ok, 'Elixir.EventSeal.Checkpoint':t()} | error().
add_cosignatures(Name, Lines, Policy) -> 'Elixir.EventSeal':add_cosignatures(Name, Lines, Policy).

%% @doc What a time-stamp authority is to be asked, for the last checkpoint: a TimeStampReq.
-spec stamp_request(name()) -> {ok, binary()} | error().
stamp_request(Name) -> stamp_request(Name, []).

-spec stamp_request(name(), options()) -> {ok, binary()} | error().
stamp_request(Name, Options) -> 'Elixir.EventSeal':stamp_request(Name, Options).

%% @doc Checks the authority's answer, a TimeStampResp, and keeps it with the checkpoint that it is of.
-spec add_stamp(name(), binary(), binary(), options()) -> {ok, 'Elixir.EventSeal.Stamp':t()} | error().
add_stamp(Name, Request, Response, Options) -> 'Elixir.EventSeal':add_stamp(Name, Request, Response, Options).

%% @doc How the audit stands.
-spec health(name()) -> {ok, map()} | error().
health(Name) -> 'Elixir.EventSeal':health(Name).

%% @doc An archive of a flow, or of a part of it, with the bodies that are to be shown.
-spec packet(name(), flow()) -> {ok, binary()} | error().
packet(Name, Flow) -> packet(Name, Flow, []).

-spec packet(name(), flow(), options()) -> {ok, binary()} | error().
packet(Name, Flow, Options) -> 'Elixir.EventSeal':packet(Name, Flow, Options).

%% @doc What a receipt's text promises under one of these keys.
-spec verify_receipt(binary(), binary() | [binary(), ...]) -> {ok, receipt()} | error().
verify_receipt(Text, Keys) -> 'Elixir.EventSeal.Receipt':verify(Text, [{key, Keys}]).

%% @doc Whether a receipt's promise was kept, by a proof of the same event. The policy has `receipts' and `key'.
-spec kept(binary(), binary(), options()) -> {ok, kept | amended | {broken, atom()}} | error().
kept(Receipt, Proof, Policy) -> 'Elixir.EventSeal.Receipt':kept(Receipt, Proof, Policy).
