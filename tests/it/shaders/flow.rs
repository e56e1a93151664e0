//! Determines where a shader's control flow is uniform over a workgroup, by rules that every compiler
//! can follow: conditions may depend on constants, on memory that the shader cannot write, and on the
//! workgroup's own built-ins. naga itself does not check this.
//!
//! The analysis treats a local variable as varying if any store to it is, and everything that follows a
//! varying `break` or `continue` in a loop as varying in every iteration; compilers may prove more.

use std::collections::{BTreeSet, HashMap, HashSet};

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, Handle, LocalVariable, Module,
    Statement, StorageAccess,
};

/// Returns the kinds of operations that need control flow that is uniform over the workgroup but that
/// the entry point, or a function that it calls, has under varying control flow.
pub(super) fn under_varying_flow(module: &Module) -> BTreeSet<&'static str> {
    let entry = &module.entry_points[0].function;
    let varying = entry.arguments.iter().map(|argument| {
        let uniform = [BuiltIn::WorkGroupId, BuiltIn::NumWorkGroups, BuiltIn::WorkGroupSize];
        !matches!(argument.binding, Some(Binding::BuiltIn(found)) if uniform.contains(&found))
    });
    let mut faults = BTreeSet::new();
    call(module, entry, varying.collect(), false, &mut faults);
    faults
}

/// Analyses a call and returns whether its result varies. `varying` says which arguments do, and `flow`
/// whether the control flow does at the call.
fn call(
    module: &Module,
    function: &Function,
    varying: Vec<bool>,
    flow: bool,
    faults: &mut BTreeSet<&'static str>,
) -> bool {
    let mut walk = Walk {
        module,
        function,
        arguments: varying,
        locals: HashSet::new(),
        results: HashSet::new(),
        known: HashMap::new(),
        returns: false,
        faults: BTreeSet::new(),
    };
    // Repeats until no more variables are found to vary: loops carry values to earlier statements.
    loop {
        let known = (walk.locals.len(), walk.results.len());
        walk.known.clear();
        let leaves = walk.block(&function.body, flow);
        walk.returns |= leaves.function;
        if known == (walk.locals.len(), walk.results.len()) {
            break;
        }
    }
    faults.append(&mut walk.faults);
    walk.returns
}

/// Whether some invocations may leave a loop's iteration or the function while others stay.
#[derive(Clone, Copy, Default)]
struct Leaves {
    iteration: bool,
    function: bool,
}

impl Leaves {
    fn any(self) -> bool {
        self.iteration || self.function
    }

    fn or(self, other: Self) -> Self {
        Self {
            iteration: self.iteration || other.iteration,
            function: self.function || other.function,
        }
    }
}

struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    /// Which of the function's arguments vary.
    arguments: Vec<bool>,
    /// Variables with a varying value.
    locals: HashSet<Handle<LocalVariable>>,
    /// Results of calls that vary.
    results: HashSet<Handle<Expression>>,
    /// Whether expressions vary, as far as analysed in the current pass.
    known: HashMap<Handle<Expression>, bool>,
    /// Whether the function's value varies.
    returns: bool,
    faults: BTreeSet<&'static str>,
}

impl Walk<'_> {
    fn varies(&mut self, expression: Handle<Expression>) -> bool {
        if let Some(&known) = self.known.get(&expression) {
            return known;
        }
        use Expression as E;
        let function = self.function;
        let mut any = |parts: &[Handle<Expression>]| parts.iter().any(|part| self.varies(*part));
        let varies = match &function.expressions[expression] {
            E::Literal(_) | E::Constant(_) | E::Override(_) | E::ZeroValue(_) => false,
            E::WorkGroupUniformLoadResult { .. } | E::ArrayLength(_) => false,
            E::FunctionArgument(n) => self.arguments[*n as usize],
            E::GlobalVariable(global) => match self.module.global_variables[*global].space {
                AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
                AddressSpace::Uniform => false,
                _ => true,
            },
            E::LocalVariable(local) => self.locals.contains(local),
            E::CallResult(_) => self.results.contains(&expression),
            E::Load { pointer: part }
            | E::AccessIndex { base: part, .. }
            | E::Splat { value: part, .. }
            | E::Swizzle { vector: part, .. }
            | E::Unary { expr: part, .. }
            | E::Relational { argument: part, .. }
            | E::As { expr: part, .. } => any(&[*part]),
            E::Access { base, index } => any(&[*base, *index]),
            E::Binary { left, right, .. } => any(&[*left, *right]),
            E::Compose { components, .. } => any(components),
            E::Select { condition, accept, reject } => any(&[*condition, *accept, *reject]),
            E::Math { arg, arg1, arg2, arg3, .. } => {
                let more = [arg1, arg2, arg3].into_iter().flatten();
                any(&[*arg]) || more.into_iter().any(|arg| any(&[*arg]))
            }
            _ => true,
        };
        self.known.insert(expression, varies);
        varies
    }

    /// Returns the variable behind a pointer; `None` if it is not one of the function's own.
    fn local(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match self.function.expressions[pointer] {
            Expression::LocalVariable(local) => Some(local),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => {
                self.local(base)
            }
            _ => None,
        }
    }

    /// Analyses a block; `flow` says whether it is reached by varying control flow.
    fn block(&mut self, block: &Block, flow: bool) -> Leaves {
        let mut leaves = Leaves::default();
        for statement in block {
            let flow = flow || leaves.any();
            leaves = leaves.or(self.statement(statement, flow));
        }
        leaves
    }

    fn statement(&mut self, statement: &Statement, flow: bool) -> Leaves {
        use Statement as S;
        let mut needs_uniform = None;
        let mut leaves = Leaves::default();
        match statement {
            S::Block(block) => leaves = self.block(block, flow),
            S::If { condition, accept, reject } => {
                let flow = flow || self.varies(*condition);
                leaves = self.block(accept, flow).or(self.block(reject, flow));
            }
            S::Switch { selector, cases } => {
                let flow = flow || self.varies(*selector);
                leaves = cases.iter().fold(leaves, |leaves, case| {
                    leaves.or(self.block(&case.body, flow || leaves.any()))
                });
            }
            S::Loop { body, continuing, break_if } => {
                leaves = self.iteration(body, continuing, *break_if, flow);
                if leaves.any() && !flow {
                    // The invocations that stay run further iterations without those that left.
                    leaves = self.iteration(body, continuing, *break_if, true);
                }
                leaves.iteration = false;
            }
            S::Break | S::Continue => leaves.iteration = flow,
            S::Return { value } => {
                leaves.function = flow;
                self.returns |= value.is_some_and(|value| self.varies(value));
            }
            S::Kill => leaves.function = flow,
            S::Store { pointer, value } => {
                let varies = flow || self.varies(*value) || self.varies(*pointer);
                self.locals.extend(self.local(*pointer).filter(|_| varies));
            }
            S::Call { function, arguments, result } => {
                // What a function does to a variable passed by pointer is not analysed.
                let given: Vec<_> = arguments.iter().filter_map(|at| self.local(*at)).collect();
                self.locals.extend(given);
                let varying = arguments.iter().map(|at| self.varies(*at)).collect();
                let callee = &self.module.functions[*function];
                let varies = call(self.module, callee, varying, flow, &mut self.faults);
                self.results.extend(result.filter(|_| varies));
            }
            S::ControlBarrier(_) | S::MemoryBarrier(_) => needs_uniform = Some("barrier"),
            S::WorkGroupUniformLoad { .. } => needs_uniform = Some("workgroupUniformLoad"),
            // naga itself refuses the other operations on matrices.
            S::CooperativeStore { .. } => needs_uniform = Some("matrix operation"),
            S::SubgroupBallot { .. }
            | S::SubgroupGather { .. }
            | S::SubgroupCollectiveOperation { .. } => needs_uniform = Some("subgroup operation"),
            _ => {}
        }
        self.faults.extend(needs_uniform.filter(|_| flow));
        leaves
    }

    fn iteration(
        &mut self,
        body: &Block,
        continuing: &Block,
        break_if: Option<Handle<Expression>>,
        flow: bool,
    ) -> Leaves {
        let in_body = self.block(body, flow);
        let leaves = in_body.or(self.block(continuing, flow || in_body.any()));
        let breaks = break_if.is_some_and(|condition| flow || self.varies(condition));
        leaves.or(Leaves { iteration: breaks, function: false })
    }
}
