-- Nothing but what every script answers: the generation, which is made where there is none.

return answer({})
